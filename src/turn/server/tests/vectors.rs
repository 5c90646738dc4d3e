//! The sample messages of RFC 5769 and RFC 8489, by which our codec and everybody else's mean the same bytes.

use stun_types::attribute::{AttributeStaticType as _, Fingerprint, Username, XorMappedAddress};
use stun_types::message::{
    LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials, ShortTermCredentials,
};

use super::super::integrity::{Derived, Hash, PasswordHash};
use super::super::presented::{Mark, Presented};
use super::super::sim::addr;
use super::draft::{Draft, INTEGRITY_SHA_256, NONCE, PASSWORD_ALGORITHM, REALM_KIND, USERHASH};

/// The password of sections 2.1 to 2.3.
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// Section 2.1.
const REQUEST: &str = "\
    000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b1\
    51263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
/// Section 2.2.
const RESPONSE_V4: &str = "\
    0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599\
    fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
/// Section 2.3.
const RESPONSE_V6: &str = "\
    010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5\
    bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
/// Section 2.4.
const LONG_TERM: &str = "\
    000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382af\
    e382b900000015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700\
    00080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn short_term() -> MessageIntegrityCredentials {
    ShortTermCredentials::new(PASSWORD.to_owned()).into()
}

/// Rows S46, S48.
#[test]
fn the_sample_request_verifies() {
    let bytes = bytes(REQUEST);
    assert_eq!(bytes.len(), 108);
    let message = Message::from_bytes(&bytes).unwrap();
    assert!(message.has_attribute(Fingerprint::TYPE), "the codec has compared it");
    assert_eq!(message.attribute::<Username>().unwrap().username(), "evtj:h6vY");
    assert!(message.validate_integrity(&short_term()).is_ok());
}

#[test]
fn the_sample_responses_verify_and_map() {
    for (hex, length, mapped) in
        [(RESPONSE_V4, 80, "192.0.2.1:32853"), (RESPONSE_V6, 92, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = bytes(hex);
        assert_eq!(bytes.len(), length);
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!(message.class(), MessageClass::Success);
        let address = message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id());
        assert_eq!(address, addr(mapped));
        assert!(message.validate_integrity(&short_term()).is_ok());
    }
}

/// Rows S21, S46.
#[test]
fn the_sample_request_with_a_long_term_credential_verifies() {
    let bytes = bytes(LONG_TERM);
    assert_eq!(bytes.len(), 116);
    let message = Message::from_bytes(&bytes).unwrap();
    let user = message.attribute::<Username>().unwrap().username().to_owned();
    assert_eq!(user, "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}");
    let key = |password: &str| {
        LongTermKeyCredentials::new(user.clone(), password.to_owned(), "example.org".to_owned()).into()
    };
    assert!(message.validate_integrity(&key("TheMatrIX")).is_ok());
    assert!(message.validate_integrity(&key("TheMatrix")).is_err());
}

#[test]
fn a_flipped_bit_is_found() {
    let mut bytes = bytes(REQUEST);
    bytes[30] ^= 1;
    assert!(Message::from_bytes(&bytes).is_err());
}

/// Who signs the samples of RFC 5769, section 2.4, and RFC 8489, appendix B.1.
const USER: &str = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
/// SHA-256 of user and realm, as appendix B.1 prints it.
const USER_HASH: &str = "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704";

/// The request of appendix B.1 up to its integrity, which prints a header length that counts the header.
fn appendix_b_1() -> Draft {
    let mut draft = Draft::new(0x0001);
    draft.0[8..].copy_from_slice(&bytes("78ad3433c6ad72c029da412e"));
    let draft = draft.with(USERHASH, &bytes(USER_HASH));
    draft.with(NONCE, b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA").with(REALM_KIND, b"example.org")
}

fn check(message: &[u8], hash: PasswordHash) {
    let presented = Presented::read(message).unwrap();
    assert_eq!(presented.userhash, Some(&bytes(USER_HASH)[..]));
    let Some(Mark { hash: Hash::Sha256, offset, is_whole: true }) = presented.mark else { panic!("no integrity") };
    let verifies = |password: &[u8]| {
        Derived::derive(hash, USER, "example.org", password).has_signed(Hash::Sha256, message, offset)
    };
    assert!(verifies(b"TheMatrIX") && !verifies(b"TheMatrix"));
}

/// Row S45.
#[test]
fn the_hash_of_the_sample_user_is_the_printed_one() {
    assert_eq!(stun_types::attribute::Userhash::compute(USER, "example.org")[..], bytes(USER_HASH));
}

/// Rows S21, S46.
#[test]
fn the_sample_request_with_a_hashed_name_verifies_by_either_key() {
    for (hash, signature) in [
        (PasswordHash::Sha256, "234112fbd4e27f983eb4032836f998216f5b23f8d927753fbc4f882bfbdf0dec"),
        (PasswordHash::Md5, "fd8c273860d2e18ebca4c89b6973befa7ee8ecc69e9642db326fab65a0b955ba"),
    ] {
        let message = appendix_b_1().with(INTEGRITY_SHA_256, &bytes(signature)).0;
        assert_eq!((message.len(), message[3]), (156, 0x88));
        check(&message, hash);
    }
}

/// As erratum 6268 has it.
#[test]
fn the_corrected_sample_request_that_chooses_sha_256_verifies() {
    let signature = "b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65";
    let message = appendix_b_1().with(PASSWORD_ALGORITHM, &[0, 2, 0, 0]).with(INTEGRITY_SHA_256, &bytes(signature)).0;
    assert_eq!(message[3], 0x90);
    check(&message, PasswordHash::Sha256);
}
