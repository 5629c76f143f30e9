//! A glob of a selector. Almost all are a plain text or one with a `*` or two, and those are matched
//! without a regular expression: each armed fault's are asked about each exchange.

use globset::GlobMatcher;

/// A glob over a text (`*` crosses slashes), made ready.
#[derive(Clone, Debug)]
pub struct Glob {
    text: Box<str>,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Text(Box<str>),
    /// `a*b`; either may be empty.
    Ends(Box<str>, Box<str>),
    /// `*a*`
    Inside(Box<str>),
    Other(Box<GlobMatcher>),
}

impl Glob {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole text fits.
    #[inline]
    pub fn is_match(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Text(whole) => text == &**whole,
            Shape::Ends(start, end) => {
                text.strip_prefix(&**start).is_some_and(|rest| rest.ends_with(&**end))
            }
            Shape::Inside(part) => text.contains(&**part),
            Shape::Other(glob) => glob.is_match(text),
        }
    }
}

impl From<GlobMatcher> for Glob {
    fn from(glob: GlobMatcher) -> Self {
        let text = glob.glob().glob().into();
        let shape = simple(&glob).unwrap_or_else(|| Shape::Other(Box::new(glob)));
        Self { text, shape }
    }
}

fn simple(glob: &GlobMatcher) -> Option<Shape> {
    let text = glob.glob().glob();
    // How it was to be read shows in its regular expression alone.
    let regex = glob.glob().regex();
    if text.contains(['?', '[', ']', '{', '}', '\\'])
        || text.contains("**")
        || !regex.starts_with("(?-u)^")
        || regex.contains("[^/]")
    {
        return None;
    }
    let mut parts = text.split('*');
    let found = match (parts.next()?, parts.next(), parts.next(), parts.next()) {
        (whole, None, ..) => Shape::Text(whole.into()),
        (start, Some(end), None, _) => Shape::Ends(start.into(), end.into()),
        ("", Some(part), Some(""), None) => Shape::Inside(part.into()),
        _ => return None,
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;

    fn shape(text: &str) -> Shape {
        Glob::from(globset::Glob::new(text).unwrap().compile_matcher()).shape
    }

    #[test]
    fn what_is_plain_takes_no_regular_expression() {
        assert!(matches!(shape("/v1/embeddings"), Shape::Text(_)));
        assert!(matches!(shape("gpt-*"), Shape::Ends(..)));
        assert!(matches!(shape("*"), Shape::Ends(..)));
        assert!(matches!(shape("*/completions*"), Shape::Inside(_)));
        for text in ["a?c", "{a,b}", "[ab]", "a\\*", "**/a", "a*b*c"] {
            assert!(matches!(shape(text), Shape::Other(_)), "{text}");
        }
        for builder in [
            GlobBuilder::new("A*").case_insensitive(true),
            GlobBuilder::new("A*").literal_separator(true),
        ] {
            let glob = builder.build().unwrap().compile_matcher();
            assert!(matches!(Glob::from(glob).shape, Shape::Other(_)));
        }
    }

    proptest! {
        #[test]
        fn a_shortcut_says_what_the_glob_says(
            pattern in "[ab/.+é]{0,4}[*]{0,1}[ab/.+é]{0,3}[*]{0,1}[ab?]{0,2}",
            text in "[ab/.+é\n]{0,8}",
        ) {
            let glob = globset::Glob::new(&pattern).unwrap().compile_matcher();
            let expected = glob.is_match(&text);
            prop_assert_eq!(Glob::from(glob).is_match(&text), expected);
        }
    }
}
