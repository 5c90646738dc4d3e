//! The operator's own static files: what lies below one folder, and nothing else.

use std::path::{Component, Path, PathBuf};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tower::ServiceExt as _;
use tower_http::services::ServeDir;

use super::task::words;
use crate::error::{Failure, Result};
use crate::text;

/// Serves a folder. Hidden files and links that lead out of it do not exist.
#[derive(Clone)]
pub(super) struct Files {
    root: PathBuf,
    folder: ServeDir,
}

impl Files {
    /// # Errors
    /// If the folder is not there or not readable.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let real = std::fs::canonicalize(root).map_err(|error| {
            Failure::operator(text!("cannot serve the folder `{}`", root.display()))
                .caused_by(error)
                .hinted(text!("change `web.root`, or leave it empty for the built-in page"))
        })?;
        Ok(Self { folder: ServeDir::new(&real), root: real })
    }

    /// Whether there is something by this path.
    pub(super) async fn has(&self, path: &str) -> bool {
        self.is_inside(path).await
    }

    pub(super) async fn answer(self, request: Request<Body>) -> Response<Body> {
        if !self.is_inside(request.uri().path()).await {
            return words(StatusCode::NOT_FOUND, "there is no such page\n");
        }
        match self.folder.oneshot(request).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                words(StatusCode::NOT_FOUND, "there is no such page\n")
            }
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// Whether the path leads to something below the root, by the file system's own account.
    async fn is_inside(&self, path: &str) -> bool {
        let Some(decoded) = decode(path) else { return false };
        let relative = Path::new(decoded.trim_start_matches('/'));
        let is_plain = relative.components().all(|part| match part {
            Component::Normal(name) => !name.to_string_lossy().starts_with('.') || name == ".well-known",
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => false,
        });
        let real = tokio::fs::canonicalize(self.root.join(relative)).await;
        is_plain && real.is_ok_and(|real| real.starts_with(&self.root))
    }
}

/// Undoes percent-encoding. `None`: it is malformed, not UTF-8, or has a zero byte.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::sys::fs::write_atomic;

    async fn get(files: &Files, path: &str) -> (StatusCode, Vec<u8>) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = files.clone().answer(request).await;
        (response.status(), response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_folder_is_served_and_nothing_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("site");
        std::fs::create_dir_all(root.join("sub dir")).unwrap();
        for (name, text) in
            [("site/index.html", "home"), ("site/sub dir/你好.txt", "hello"), ("site/.env", "x"), ("secret", "x")]
        {
            write_atomic(&folder.path().join(name), text.as_bytes(), 0o644).unwrap();
        }
        symlink(folder.path().join("secret"), root.join("link.txt")).unwrap();
        symlink(root.join("index.html"), root.join("inner.html")).unwrap();
        let files = Files::new(&root).unwrap();
        assert_eq!(get(&files, "/").await, (StatusCode::OK, b"home".to_vec()));
        assert_eq!(get(&files, "/sub%20dir/%E4%BD%A0%E5%A5%BD.txt").await, (StatusCode::OK, b"hello".to_vec()));
        assert_eq!(get(&files, "/inner.html").await.0, StatusCode::OK);
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/sub%20dir/..%2f..%2fsecret",
            "/link.txt",
            "/.env",
            "/%2eenv",
            "/%00",
            "/%zz",
            "/none",
        ] {
            let (status, body) = get(&files, path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn a_missing_folder_names_its_key() {
        let failure = Files::new(Path::new("/nowhere/at/all")).map(drop).unwrap_err();
        assert!(failure.hints()[0].contains("`web.root`"));
    }
}
