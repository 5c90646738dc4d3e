//! The pages of `rtcctl explain`, one for each code and for some subjects besides, and those of `rtcctl help`.

use super::Lang;

const EN: &str = include_str!("../../templates/explain/en.md");
const ZH: &str = include_str!("../../templates/explain/zh.md");
/// The pages of `rtcctl help`.
const HELP_EN: &str = include_str!("../../templates/help/en.md");
const HELP_ZH: &str = include_str!("../../templates/help/zh.md");

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub code: &'static str,
    pub title: &'static str,
    pub body: &'static str,
}

/// All pages, in order.
#[must_use]
pub fn pages(lang: Lang) -> Vec<Page> {
    let text = match lang {
        Lang::En => EN,
        Lang::Zh => ZH,
    };
    read_all(text)
}

/// The operator's guide, in order.
#[must_use]
pub fn topics(lang: Lang) -> Vec<Page> {
    read_all(match lang {
        Lang::En => HELP_EN,
        Lang::Zh => HELP_ZH,
    })
}

/// One page of the operator's guide.
#[must_use]
pub fn topic(lang: Lang, word: &str) -> Option<Page> {
    topics(lang).into_iter().find(|page| page.code == word)
}

fn read_all(text: &'static str) -> Vec<Page> {
    text.split("\n## ").skip(1).filter_map(read).collect()
}

/// The page of a code.
#[must_use]
pub fn page(lang: Lang, code: &str) -> Option<Page> {
    pages(lang).into_iter().find(|page| page.code == code)
}

fn read(section: &'static str) -> Option<Page> {
    let (code, rest) = section.split_once('\n')?;
    let (title, body) = rest.split_once('\n')?;
    Some(Page { code, title, body: body.trim_end() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Check;
    use crate::findings::Code;
    use crate::setup::plan::CODES;

    #[test]
    fn every_code_has_a_page_in_each_language_and_no_page_is_without() {
        let codes = |lang| pages(lang).iter().map(|page| page.code).collect::<Vec<_>>();
        assert_eq!(codes(Lang::En), codes(Lang::Zh));
        for code in Code::ALL.iter().map(|code| code.as_str()).chain(CODES) {
            assert!(codes(Lang::En).contains(&code), "{code} has no page");
        }
        // What `doctor` finds is told by the title of its page.
        for check in Check::all() {
            assert!(codes(Lang::Zh).contains(&check.as_str()), "{} has no page", check.as_str());
        }
        let mut unique = codes(Lang::En);
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), codes(Lang::En).len());
        for lang in [Lang::En, Lang::Zh] {
            for page in pages(lang) {
                assert!(!page.title.is_empty() && !page.body.is_empty(), "{}", page.code);
                let is_chinese = page.title.chars().any(|symbol| ('\u{4e00}'..='\u{9fff}').contains(&symbol));
                assert_eq!(is_chinese, lang == Lang::Zh, "{}", page.title);
            }
        }
    }

    #[test]
    fn commands_are_the_same_in_each_language() {
        // Whatever stands in backticks is typed, so it is not translated.
        let typed = |page: &Page| {
            let mut typed: Vec<&str> = page.body.split('`').skip(1).step_by(2).collect();
            typed.sort_unstable();
            typed.dedup();
            typed.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let english = pages(Lang::En).into_iter().chain(topics(Lang::En));
        let chinese = pages(Lang::Zh).into_iter().chain(topics(Lang::Zh));
        for (english, chinese) in english.zip(chinese) {
            assert_eq!(english.code, chinese.code);
            assert_eq!(typed(&english), typed(&chinese), "{}", english.code);
        }
        assert!(
            ["ports", "clouds", "nat", "certificates", "troubleshooting"]
                .iter()
                .all(|word| topic(Lang::Zh, word).is_some())
        );
    }
}
