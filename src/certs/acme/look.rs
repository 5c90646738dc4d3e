//! Looks at an authority without asking it for anything: whether its directory is one, and what time it is there.

use bytes::Bytes;
use http::Request;
use instant_acme::{BodyWrapper, HttpClient as _};
use serde_json::Value;

use super::super::moment::Moment;
use super::super::trouble::{Class, Trouble};
use super::Authority;
use super::failure::trouble;
use super::http::Client;
use crate::text;

/// Asks for the directory. Gives the time at the authority, if it tells.
///
/// # Errors
/// If it cannot be reached, is not trusted, or is no directory of ACME.
pub async fn look(authority: &Authority) -> Result<Option<Moment>, Trouble> {
    let client = Client::new(authority.root.as_deref())?;
    check(&client, &authority.directory).await
}

pub(super) async fn check(client: &Client, directory: &str) -> Result<Option<Moment>, Trouble> {
    let none = |why: &str| Trouble::new(Class::Ours, "no-directory", text!("`{}` {}", directory, why));
    let request = Request::builder().uri(directory).body(BodyWrapper::<Bytes>::default());
    let request = request.map_err(|error| none(&format!("is no address: {error}")))?;
    let mut answer = client.request(request).await.map_err(|error| trouble(&error, client.noted()))?;
    let status = answer.parts.status.as_u16();
    let noted = client.noted();
    if status == 429 || status >= 500 {
        return Err(trouble(&instant_acme::Error::Str("it does not serve its directory"), noted));
    }
    let body = answer.body.into_bytes().await.unwrap_or_default();
    let document = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    if status != 200 || !document["newOrder"].is_string() {
        return Err(none(&format!("answers with status {status}, and with no directory of ACME")));
    }
    Ok(noted.date)
}
