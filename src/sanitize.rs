//! Texts that people see or tables keep. In: a text that can come from data, a file name, a URL or a library's message. Out: the text
//! without log-ins and signatures, or with control characters escaped. It must not change anything else of it.

use std::borrow::Cow;

/// Schemes of URLs whose `?` always begins a query. In the URL of an object store it can be a wildcard.
const WEB: [&str; 2] = ["http", "https"];
/// Schemes of Azure's URLs, in which a container's name precedes the `@`.
const CONTAINERS: [&str; 2] = ["abfs", "abfss"];
/// Ends of the names of query parameters that grant access, in lower case: `X-Amz-Signature`, `sig`, `access_token`.
const GRANTS: [&str; 9] =
    ["signature", "sig", "token", "credential", "password", "passwd", "secret", "apikey", "api_key"];
/// Stands for what was removed.
const REMOVED: char = '…';

/// The text without the log-ins and queries of its URLs, and without the values of other parameters that grant access. The query of a
/// web address is removed as a whole: what in it is a signature, only its server knows.
#[must_use]
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    let text = if text.contains("://") { Cow::Owned(without_logins(text)) } else { Cow::Borrowed(text) };
    if text.contains('=') && text.contains(['?', '&']) { Cow::Owned(without_grants(&text)) } else { text }
}

fn without_logins(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = (&rest[..at], &rest[at + 3..]);
        let scheme = before.rsplit(|letter: char| !letter.is_ascii_alphanumeric() && !"+.-".contains(letter)).next();
        let end =
            after.find(|letter: char| letter.is_whitespace() || letter.is_control() || "\"'`<>\\".contains(letter));
        let (url, behind) = after.split_at(end.unwrap_or(after.len()));
        kept += before;
        kept += "://";
        kept += &without_login(&scheme.unwrap_or_default().to_ascii_lowercase(), url);
        rest = behind;
    }
    kept + rest
}

/// The part of a URL after `://`, without its log-in and query.
fn without_login(scheme: &str, url: &str) -> String {
    let (authority, _) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
    let not_a_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit()) && !authority.ends_with(']'));
    let login = match authority.rfind('@') {
        Some(at) if CONTAINERS.contains(&scheme) && !authority[..at].contains(':') => 0,
        Some(at) => at + 1,
        // A password with an unescaped slash.
        None if not_a_port => url.rfind('@').map_or(0, |at| at + 1),
        None => 0,
    };
    let url = &url[login..];
    let query = url.find('?').filter(|at| WEB.contains(&scheme) || has_parameter(&url[at + 1..]));
    let fragment = url.find('#').filter(|at| has_parameter(&url[at + 1..]));
    let Some(end) = query.into_iter().chain(fragment).min() else { return without_nested(url) };
    // Punctuation of the sentence around the URL.
    let closing = &url[url.trim_end_matches([')', ']', '}', ',', '.', ';', ':']).len().max(end + 1)..];
    format!("{}{}{REMOVED}{closing}", without_nested(&url[..end]), &url[end..=end])
}

/// A URL can contain another one.
fn without_nested(url: &str) -> String {
    if url.contains("://") { without_logins(url) } else { url.to_owned() }
}

/// Whether a text begins as `name=`.
fn has_parameter(query: &str) -> bool {
    let name = query.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.%".contains(letter));
    name.is_some_and(|end| end > 0 && query[end..].starts_with('='))
}

/// The text without the values of parameters that grant access.
fn without_grants(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['?', '&']) {
        let (before, after) = rest.split_at(at + 1);
        kept += before;
        rest = after;
        if !has_parameter(after) {
            continue;
        }
        let (name, value) = after.split_once('=').unwrap_or((after, ""));
        kept += name;
        kept.push('=');
        rest = value;
        let name = name.to_ascii_lowercase();
        if GRANTS.iter().any(|grant| name.ends_with(grant)) {
            let end = value.find(|letter: char| letter.is_whitespace() || "&\"'`<>\\)".contains(letter));
            kept.push(REMOVED);
            rest = &value[end.unwrap_or(value.len())..];
        }
    }
    kept + rest
}

/// Whether a terminal acts on a character instead of showing it: control characters (C0, DEL, C1), and those that reorder the text
/// around them or break lines.
fn acts(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// The text on one line, with line ends, tabs and every other character that a terminal acts on escaped: `\n`, `\u{1b}`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |_| false)
}

/// The same with line ends and tabs kept.
#[must_use]
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |letter| matches!(letter, '\n' | '\t'))
}

/// JSON text with the characters that a terminal acts on as JSON escapes: the same value.
#[must_use]
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    let escape = |letter: char| format!("\\u{:04x}", u32::from(letter));
    // Outside strings, JSON has only these two; inside, they are escaped already.
    replaced(json, |letter| acts(letter) && !matches!(letter, '\n' | '\t'), escape)
}

fn escaped_unless(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, |letter| acts(letter) && !kept(letter), |letter| letter.escape_default().to_string())
}

fn replaced(text: &str, wanted: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&wanted) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if wanted(letter) {
            kept += &escape(letter);
        } else {
            kept.push(letter);
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn log_ins_and_signatures_are_removed() {
        for (text, shown) in [
            ("http://me:secret@host/a.csv", "http://host/a.csv"),
            ("HTTPS://token@host:8080/a", "HTTPS://host:8080/a"),
            ("s3://me:secret@lake/news/*.parquet", "s3://lake/news/*.parquet"),
            ("http://me:se/cret@host/a.csv", "http://host/a.csv"),
            ("http://me:se@cret@host", "http://host"),
            ("https://host/a.parquet?X-Amz-Signature=secret&X-Amz-Date=1", "https://host/a.parquet?…"),
            ("error for url (https://host/a?sig=secret): refused", "error for url (https://host/a?…): refused"),
            ("`https://host/a?secret`", "`https://host/a?…`"),
            ("az://lake/a.csv?sv=1&sig=secret", "az://lake/a.csv?…"),
            ("https://host/a#access_token=secret", "https://host/a#…"),
            ("GET /a?part=1&sig=secret&x=2 failed", "GET /a?part=1&sig=…&x=2 failed"),
            ("GET /a?X-Amz-Credential=secret", "GET /a?X-Amz-Credential=…"),
            ("https://old/http://me:secret@host/", "https://old/http://host/"),
            ("{\"error\":\"at http://me:secret@host/\"}", "{\"error\":\"at http://host/\"}"),
            ("https://me:secret@host and ftp://you:secret@host", "https://host and ftp://host"),
        ] {
            assert_eq!(without_secrets(text), shown);
            assert!(!without_secrets(text).contains("secret"));
        }
    }

    #[test]
    fn other_texts_are_unchanged() {
        for text in [
            "",
            "https://host/a@b.csv",
            "hf://owner/name@refs/pr/1",
            "s3://lake/dt=2026-0?/x=1/*.parquet",
            "abfss://container@account.dfs.core.windows.net/a",
            "http://[::1]:8080/a",
            "http://host:80/@me",
            "lang = 'en@x' and a = '?b'",
            "who? a=b & c=d",
            "/data/a?b.csv",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "a\u{1b}[31m\u{9b}b\u{7}\u{202e}c\r\n\td\u{2028}é🎉\u{200d}";
        assert_eq!(escaped(text), "a\\u{1b}[31m\\u{9b}b\\u{7}\\u{202e}c\\r\\n\\td\\u{2028}é🎉\u{200d}");
        assert_eq!(escaped_lines(text), "a\\u{1b}[31m\\u{9b}b\\u{7}\\u{202e}c\\r\n\td\\u{2028}é🎉\u{200d}");
        let json = serde_json::to_string_pretty(&serde_json::json!({ "text": text })).unwrap();
        let shown = escaped_json(&json);
        assert!(!shown.chars().any(|letter| acts(letter) && letter != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["text"], text);
    }

    proptest! {
        #[test]
        fn a_password_does_not_remain(
            before in "[a-z ?&=(]{0,10}", scheme in "https?|s3|gs|ftp", user in "[a-z]{0,5}", path in "[a-z/?&=@:.]{0,20}",
        ) {
            let text = format!("{before} {scheme}://{user}:PASSWORD@host/{path}?sig=PASSWORD rest");
            prop_assert!(!without_secrets(&text).contains("PASSWORD"), "{}", without_secrets(&text));
        }

        #[test]
        fn any_text_is_accepted_and_a_second_pass_changes_nothing(text in "[a-z:/@?&=#.\\[\\] \u{1b}é…]{0,40}") {
            let once = without_secrets(&text).into_owned();
            prop_assert_eq!(without_secrets(&once), once.as_str());
            prop_assert!(!escaped(&text).contains(acts));
        }
    }
}
