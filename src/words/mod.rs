//! Texts for people in their own language: which one that is, the catalogue, and the pages of `rtcctl explain`.
//!
//! English stands where it is said; `catalogue` has the Chinese for each such text. A test looks that it has all of
//! them, with the same places for values.

pub mod carry;
mod catalogue;
mod chinese;
mod pages;
mod system;
pub mod text;

pub use pages::{Page, page, pages, topic, topics};
pub use text::Text;

/// A language that texts are there in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    #[default]
    En,
    Zh,
}

impl Lang {
    /// The language of the first of the variables that says one: `LC_ALL`, `LC_MESSAGES`, `LANG`, in this order.
    #[must_use]
    pub fn of_locale<'a>(variables: impl IntoIterator<Item = &'a str>) -> Self {
        let said = variables.into_iter().find(|value| !value.is_empty()).unwrap_or_default();
        let language = said.split(['_', '.', '@', '-']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("zh") { Self::Zh } else { Self::En }
    }
}

/// A text with its values: `text!("cannot use port {}", port)`. The first argument is the key of the catalogue.
#[macro_export]
macro_rules! text {
    ($english:literal $(, $value:expr)* $(,)?) => {
        $crate::words::Text::new($english, {
            #[allow(unused_imports, reason = "a text may have no values")]
            use $crate::words::text::Worth as _;
            vec![$($value.worth()),*]
        })
    };
}

/// A text without values, marked as a key of the catalogue. It is said by `Lang::say`.
#[macro_export]
macro_rules! word {
    ($english:literal) => {
        $english
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_that_of_the_locale() {
        for (variables, lang) in [
            (&["", "", "zh_CN.UTF-8"][..], Lang::Zh),
            (&["C", "", "zh_CN.UTF-8"], Lang::En),
            (&["", "zh-Hans", "en_US"], Lang::Zh),
            (&["zh"], Lang::Zh),
            (&["zhx_CN"], Lang::En),
            (&[], Lang::En),
        ] {
            assert_eq!(Lang::of_locale(variables.iter().copied()), lang, "{variables:?}");
        }
    }
}
