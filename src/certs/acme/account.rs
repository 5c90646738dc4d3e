//! Signs in with an authority, or up. The key is on disk before the authority hears of it.

use std::io::ErrorKind;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use instant_acme::{Account, ExternalAccountKey, Key, NewAccount};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::super::trouble::{Class, Trouble};
use super::Authority;
use super::failure::trouble;
use super::http::Client;
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::text;
use crate::words::Text;

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Saved {
    directory: String,
    /// PKCS #8 in Base64.
    key: String,
    /// The account's address; `None`: the authority has not confirmed it yet.
    id: Option<String>,
}

/// Opens the account of `file`, or a new one.
pub(super) async fn sign_in(client: &Client, authority: &Authority, file: &Path) -> Result<Account, Trouble> {
    let saved = load(file, &authority.directory)?;
    if let Some(Saved { key, id: Some(id), .. }) = &saved
        && let Ok(pkcs8) = BASE64_STANDARD.decode(key)
    {
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let opened = builder.from_parts(id.clone(), pkcs8.into(), authority.directory.clone()).await;
        return opened.map_err(|error| trouble(&error, client.noted()));
    }
    let key = saved.and_then(|saved| BASE64_STANDARD.decode(saved.key).ok());
    let contact: Vec<String> = authority.contact.iter().map(|address| format!("mailto:{address}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let account = match &authority.binding {
        Some((id, secret)) => {
            // The crate makes the key itself here, so it cannot be kept before. A crash in between costs an account.
            let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let binding = ExternalAccountKey::new(id.clone(), &binding_key(secret.expose())?);
            let builder = Account::builder_with_http(Box::new(client.clone()));
            let (account, credentials) = builder
                .create(&new, authority.directory.clone(), Some(&binding))
                .await
                .map_err(|error| refused(trouble(&error, client.noted())))?;
            let key = BASE64_STANDARD.encode(credentials.private_key().secret_pkcs8_der());
            save(file, &Saved { directory: authority.directory.clone(), key, id: Some(account.id().to_owned()) })?;
            account
        }
        None => {
            let pkcs8 = match key {
                Some(key) => key,
                None => {
                    let (_, pkcs8) = Key::generate_pkcs8().map_err(|error| trouble(&error, client.noted()))?;
                    pkcs8.secret_pkcs8_der().to_vec()
                }
            };
            let text = BASE64_STANDARD.encode(&pkcs8);
            save(file, &Saved { directory: authority.directory.clone(), key: text.clone(), id: None })?;
            crate::sys::fault::point("account-key-kept");
            let account = sign_up(client, authority, pkcs8, &contact).await?;
            crate::sys::fault::point("account-made");
            save(
                file,
                &Saved { directory: authority.directory.clone(), key: text, id: Some(account.id().to_owned()) },
            )?;
            account
        }
    };
    info!(directory = authority.directory, "opened an account with an authority; its terms of service hold");
    Ok(account)
}

/// Keeps the key but not the account: an authority that was set up anew, as private ones are, does not know it.
pub(super) fn forget(file: &Path, directory: &str) -> Result<(), Trouble> {
    match load(file, directory)? {
        Some(saved) => save(file, &Saved { id: None, ..saved }),
        None => Ok(()),
    }
}

/// Makes an account for a key, or finds the one it has already.
async fn sign_up(client: &Client, authority: &Authority, pkcs8: Vec<u8>, contact: &[&str]) -> Result<Account, Trouble> {
    let failed = |error: instant_acme::Error| trouble(&error, client.noted());
    let key = Key::from_pkcs8_der(pkcs8.clone().into()).map_err(failed)?;
    let pair = (key, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)));
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let (account, _credentials) = builder.create_from_key(pair, authority.directory.clone()).await.map_err(failed)?;
    if !contact.is_empty() {
        account.update_contacts(contact).await.map_err(failed)?;
    }
    Ok(account)
}

/// What an authority refuses where it was shown a binding is most likely that.
fn refused(trouble: Trouble) -> Trouble {
    match trouble.class {
        Class::Ours if ["unauthorized", "malformed"].contains(&trouble.code.as_str()) => {
            Trouble::new(Class::Ours, "binding", text!("the account was refused with its binding: {}", trouble.detail))
        }
        Class::Ours | Class::Theirs | Class::Limit => trouble,
    }
}

/// The key of a binding, which authorities hand out in Base64 for URLs.
fn binding_key(text: &[u8]) -> Result<Vec<u8>, Trouble> {
    let text = std::str::from_utf8(text).unwrap_or_default().trim();
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| BASE64_URL_SAFE.decode(text))
        .or_else(|_| BASE64_STANDARD.decode(text))
        .map_err(|_| Trouble::new(Class::Ours, "binding", text!("the key in `acme_eab` of secrets.yaml is not Base64")))
}

fn load(file: &Path, directory: &str) -> Result<Option<Saved>, Trouble> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(text!("cannot read `{}`: {}", file.display(), error))),
    };
    match serde_json::from_slice::<Saved>(&text) {
        Ok(saved) if saved.directory != directory => Ok(None),
        Ok(saved) if is_usable(&saved) => Ok(Some(saved)),
        Ok(_) | Err(_) => {
            // Whoever spoilt it may want it back.
            let aside = file.with_extension("damaged");
            warn!(file = %file.display(), "an account's file is damaged; it is put aside and a new account is made");
            std::fs::rename(file, &aside)
                .map_err(|error| disk(text!("cannot rename `{}`: {}", file.display(), error)))?;
            Ok(None)
        }
    }
}

/// Whether the key is one: a bit that fell over must not keep certificates away for ever.
fn is_usable(saved: &Saved) -> bool {
    let pkcs8 = BASE64_STANDARD.decode(&saved.key);
    pkcs8.is_ok_and(|pkcs8| Key::from_pkcs8_der(pkcs8.into()).is_ok())
}

fn save(file: &Path, saved: &Saved) -> Result<(), Trouble> {
    let text = serde_json::to_vec(saved).map_err(|error| disk(Text::verbatim(error.to_string())))?;
    if let Some(folder) = file.parent() {
        create_private_dir(folder).map_err(|failure| disk(failure.told()))?;
    }
    write_atomic(file, &text, 0o600).map_err(|failure| disk(failure.told()))
}

fn disk(detail: Text) -> Trouble {
    Trouble::new(Class::Ours, "disk", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_whose_key_is_damaged_is_put_aside_and_a_whole_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("account.json");
        let (_, pkcs8) = Key::generate_pkcs8().unwrap();
        let key = BASE64_STANDARD.encode(pkcs8.secret_pkcs8_der());
        let saved = |key: &str| Saved { directory: "d".to_owned(), key: key.to_owned(), id: Some("i".to_owned()) };
        save(&file, &saved(&key)).unwrap();
        assert_eq!(load(&file, "d").unwrap().unwrap().key, key);
        assert!(load(&file, "other").unwrap().is_none() && file.exists());
        for damaged in ["", "%%", &key[..key.len() / 8 * 4], "AAAA"] {
            save(&file, &saved(damaged)).unwrap();
            assert!(load(&file, "d").unwrap().is_none(), "{damaged}");
            assert!(!file.exists() && file.with_extension("damaged").exists(), "{damaged}");
        }
    }
}
