//! An address as a QR code for a terminal, so that a phone need not type it.

use fast_qr::QRBuilder;

/// The code in block characters; `None` if `text` is too long for one.
#[must_use]
pub(super) fn qr_code(text: &str) -> Option<String> {
    QRBuilder::new(text).build().ok().map(|code| code.to_str())
}
