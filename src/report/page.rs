//! Figures and documents → one HTML file. In: values that serialize to JSON. Out: a page that embeds its style, its script and its data,
//! and loads nothing else. It must not insert a value anywhere except into the JSON and, escaped, the title.
//!
//! Documents, type names and settings are untrusted input. Therefore the data is in script elements of a non-executable type, with every
//! character escaped that could end one. The page's script turns it into text nodes, never into markup. The content security policy in
//! the page's head allows only this script, by its hash, and forbids strings as markup and network access.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::documents::Documents;
use super::embed::{embed, failed};
use super::summary::Summary;
use crate::error::Result;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// The parts of the script, in the order of their dependencies.
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n",
    include_str!("page/data.js"),
    include_str!("page/elements.js"),
    include_str!("page/charts.js"),
    include_str!("page/tips.js"),
    include_str!("page/marks.js"),
    include_str!("page/tabs/overview.js"),
    include_str!("page/tabs/types.js"),
    include_str!("page/tabs/quality.js"),
    include_str!("page/tabs/systems.js"),
    include_str!("page/tabs/runs.js"),
    include_str!("page/tabs/documents.js"),
    include_str!("page/filters.js"),
    include_str!("page/page.js"),
    "})();\n"
);

/// Renders the page.
pub(super) fn render(summary: &Summary, documents: &Documents) -> Result<String> {
    let (facts, rows) = (embed(summary)?, embed(documents)?);
    let mut page = String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len() + facts.len() + rows.len());
    let mut rest = TEMPLATE;
    // One pass over the template: placeholders inside values are not expanded.
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, tail)) = after.split_once("}}") else { break };
        page.push_str(before);
        match name {
            "title" => page.push_str(&escape(&summary.name)),
            "policy" => page.push_str(&policy()),
            "style" => page.push_str(STYLE),
            "summary" => page.push_str(&facts),
            "documents" => page.push_str(&rows),
            "script" => page.push_str(SCRIPT),
            unknown => return Err(failed(format!("the page's template names `{unknown}`").into())),
        }
        rest = tail;
    }
    page.push_str(rest);
    Ok(page)
}

/// The content security policy: it allows only the page's own style and script.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// Escapes text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_title_is_escaped(title in any::<String>()) {
            let escaped = escape(&title);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
            prop_assert_eq!(back.replace("&amp;", "&"), title);
        }
    }

    #[test]
    fn style_and_script_are_safe_to_embed() {
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--") && !STYLE.contains("</style"));
        // A browser normalizes line ends to line feeds before it hashes, so there must be no carriage returns.
        assert!(!SCRIPT.contains('\r') && !STYLE.contains('\r') && !TEMPLATE.contains('\r'));
        // Nothing is fetched and no string becomes markup.
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "fetch(",
            "import(",
            "XMLHttpRequest",
        ] {
            assert!(!SCRIPT.contains(word), "the script contains {word}");
        }
        for text in [STYLE, TEMPLATE] {
            assert!(!text.contains("://") && !text.contains("url(") && !text.contains("@import"));
        }
    }

    /// A colour's luminance (WCAG 2.2, "relative luminance").
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    /// The light and the dark colour of a CSS variable.
    fn colours(name: &str) -> [&'static str; 2] {
        let (_, rest) = STYLE.split_once(&format!("--{name}: light-dark(")).unwrap_or_else(|| panic!("no --{name}"));
        let (light, rest) = rest.split_once(", ").unwrap();
        [light, rest.split_once(')').unwrap().0]
    }

    #[test]
    fn colours_have_enough_contrast() {
        let backgrounds = [colours("paper"), colours("card")];
        let names =
            (0..8).map(|number| format!("c{number}")).chain(["ink", "soft", "accent", "bad"].map(str::to_owned));
        for name in names {
            for theme in 0..2 {
                for background in backgrounds {
                    let (one, other) = (luminance(colours(&name)[theme]), luminance(background[theme]));
                    let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                    assert!(contrast >= 4.5, "--{name} on {}: {contrast:.2}", background[theme]);
                }
            }
        }
    }
}
