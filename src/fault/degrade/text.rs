//! What becomes of an answer's text, token by token.

use std::sync::Arc;

use super::words::{Language, WRONG, ends_sentence, tokens};
use crate::dice::Dice;
use crate::fault::answer::Rewrite;

/// Text remembered of an answer, to be said again.
const REMEMBERED: usize = 64 * 1024;
/// Tokens of the part that a loop repeats, at most.
const LONGEST_LOOP: usize = 64;

/// How a text is changed, with its places as numbers of tokens.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Drop { rate: f64, after: u64 },
    Empty,
    /// Said `times` times in all, `most` tokens at most.
    Extend { times: u64, most: u64 },
    Garble { rate: f64, after: u64 },
    Language { language: Language, after: u64 },
    /// From `after` on one part again and again, up to `most` tokens.
    Loop { by: Part, after: u64, most: u64 },
    /// Another text, token for token.
    Script(Arc<[String]>),
    Shorten { keep: u64 },
}

/// What is repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The last sentence, or what there is of it; 64 tokens at most.
    #[default]
    Sentence,
    /// The last token.
    Token,
}

/// A text as it is changed.
#[derive(Debug)]
pub(super) struct Text {
    change: Change,
    dice: Dice,
    /// Tokens that came, and that went on.
    pub(super) seen: u64,
    pub(super) said: u64,
    /// Tokens that may be said again, and their bytes.
    kept: Vec<String>,
    bytes: usize,
    /// What a loop repeats, once it has begun.
    looped: Option<Vec<String>>,
    over: bool,
}

impl Text {
    pub(super) fn new(change: Change, dice: Dice) -> Self {
        let (kept, looped) = (Vec::new(), None);
        Self { change, dice, seen: 0, said: 0, kept, bytes: 0, looped, over: false }
    }

    /// Whether it stopped only because it may have no more tokens.
    pub(super) fn is_full(&self) -> bool {
        match self.change {
            Change::Extend { most, .. } | Change::Loop { most, .. } => self.said >= most,
            _ => false,
        }
    }

    fn token(&mut self, token: &str) -> String {
        let number = self.seen;
        self.seen += 1;
        let drawn = |rate: f64| self.dice.fork_number(number).unit() < rate;
        let new = match &self.change {
            Change::Drop { rate, after } if number >= *after && drawn(*rate) => String::new(),
            Change::Garble { rate, after } if number >= *after && drawn(*rate) => {
                let mut dice = self.dice.fork_number(number).fork("script");
                let wrong = WRONG[dice.whole(0, WRONG.len() as u64 - 1) as usize];
                let space = if token.starts_with(' ') { " " } else { "" };
                format!("{space}{wrong}")
            }
            Change::Drop { .. } | Change::Garble { .. } => token.to_owned(),
            Change::Empty => String::new(),
            Change::Language { language, after } if number >= *after => {
                let new = language.token(number - after);
                if number == 0 { new.trim_start().to_owned() } else { new.to_owned() }
            }
            Change::Language { .. } => token.to_owned(),
            Change::Script(script) => script.get(number as usize).cloned().unwrap_or_default(),
            Change::Shorten { keep } if number >= *keep => String::new(),
            Change::Shorten { .. } => token.to_owned(),
            Change::Extend { .. } => {
                self.remember(token);
                token.to_owned()
            }
            Change::Loop { after, most, .. } => {
                let (after, most) = ((*after).max(1), *most);
                if number < after {
                    self.remember(token);
                    token.to_owned()
                } else if self.said < most {
                    self.looping()
                } else {
                    String::new()
                }
            }
        };
        self.said += u64::from(!new.is_empty());
        new
    }

    fn remember(&mut self, token: &str) {
        if self.bytes + token.len() <= REMEMBERED {
            self.bytes += token.len();
            self.kept.push(token.to_owned());
        }
    }

    /// The next token of the loop.
    fn looping(&mut self) -> String {
        let looped = match self.looped.take() {
            Some(looped) => looped,
            None => self.loop_of(),
        };
        let start = self.kept.len() as u64;
        let next = looped[(self.said.saturating_sub(start) % looped.len() as u64) as usize].clone();
        self.looped = Some(looped);
        next
    }

    /// What is repeated; never nothing.
    fn loop_of(&self) -> Vec<String> {
        let by = if let Change::Loop { by, .. } = self.change { by } else { Part::Token };
        let length = match by {
            Part::Token => 1,
            Part::Sentence => {
                // Up to the end of the last sentence but one, counted from the end.
                let ends = self.kept.iter().rev().skip(1).position(|token| ends_sentence(token));
                ends.map_or(self.kept.len(), |before| before + 1).clamp(1, LONGEST_LOOP)
            }
        };
        let start = self.kept.len().saturating_sub(length);
        let mut looped = self.kept[start..].to_vec();
        if looped.is_empty() {
            looped.push(" …".to_owned());
        }
        if let Some(first) = looped.first_mut()
            && self.kept.len() == length
            && first.chars().next().is_some_and(char::is_alphanumeric)
        {
            // The text's very first word has no space before it.
            first.insert(0, ' ');
        }
        looped
    }
}

impl Rewrite for Text {
    fn piece(&mut self, piece: &str) -> String {
        tokens(piece).into_iter().map(|token| self.token(token)).collect()
    }

    fn rest(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.over, true) || self.seen == 0 {
            return Vec::new();
        }
        let mut rest = Vec::new();
        match self.change.clone() {
            Change::Extend { times, most } => {
                for number in 0..self.kept.len() * (times as usize - 1) {
                    if self.said >= most {
                        break;
                    }
                    let at = number % self.kept.len();
                    let space = if at == 0 { " " } else { "" };
                    rest.push(format!("{space}{}", self.kept[at]));
                    self.said += 1;
                }
            }
            Change::Loop { most, .. } => {
                while self.said < most {
                    rest.push(self.looping());
                    self.said += 1;
                }
            }
            Change::Script(script) => {
                let left = script.get(self.seen as usize..).unwrap_or_default();
                self.said += left.len() as u64;
                rest.extend_from_slice(left);
            }
            _ => {}
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: Change, text: &str) -> (String, u64, u64) {
        let mut changing = Text::new(change, Dice::from_seed(1));
        let mut new = changing.piece(text);
        new.extend(changing.rest());
        (new, changing.seen, changing.said)
    }

    #[test]
    fn texts_get_shorter_longer_and_empty() {
        let text = "One two. Three four.";
        assert_eq!(changed(Change::Shorten { keep: 2 }, text), ("One two".into(), 6, 2));
        assert_eq!(changed(Change::Empty, text), (String::new(), 6, 0));
        let (new, _, said) = changed(Change::Extend { times: 3, most: 100 }, text);
        assert_eq!((new, said), ([text; 3].join(" "), 18));
        let (new, _, said) = changed(Change::Extend { times: 9, most: 8 }, text);
        assert_eq!((new.as_str(), said), ("One two. Three four. One two", 8));
    }

    #[test]
    fn loops_repeat_the_last_sentence_or_token() {
        let change = |by, after, most| Change::Loop { by, after, most };
        let text = "One two. Three four. Five";
        let (new, _, said) = changed(change(Part::Sentence, 6, 12), text);
        assert_eq!((new.as_str(), said), ("One two. Three four. Three four. Three four.", 12));
        let (new, ..) = changed(change(Part::Token, 2, 6), text);
        assert_eq!(new, "One two two two two two");
        let (new, ..) = changed(change(Part::Sentence, 2, 6), text);
        assert_eq!(new, "One two One two One two", "no sentence is over yet");
        let (new, ..) = changed(change(Part::Token, 50, 9), text);
        assert_eq!(new, "One two. Three four. Five Five Five", "it begins when the text is over");
    }

    #[test]
    fn other_words_come_token_for_token() {
        let script: Arc<[String]> = ["a", " b", " c"].map(str::to_owned).into();
        assert_eq!(changed(Change::Script(script.clone()), "One").0, "a b c");
        assert_eq!(changed(Change::Script(script), "One two. Three four.").0, "a b c");
        let change = Change::Language { language: Language::German, after: 1 };
        let (new, seen, said) = changed(change, "One two three four");
        assert_eq!((new.as_str(), seen, said), ("One Die Antwort steht", 4, 4));
    }

    #[test]
    fn tokens_are_garbled_and_lost_at_a_rate() {
        let text = "word ".repeat(4000);
        let (new, seen, said) = changed(Change::Garble { rate: 0.1, after: 0 }, text.trim_end());
        assert_eq!(seen, said);
        let wrong = new.split(' ').filter(|word| *word != "word").count();
        assert!((320..480).contains(&wrong), "{wrong} of 4000");
        let (_, seen, said) = changed(Change::Drop { rate: 0.1, after: 3000 }, text.trim_end());
        assert!((60..140).contains(&(seen - said)), "{} of 1000", seen - said);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}", number in 0u64..8) {
            for change in [
                Change::Loop { by: Part::Sentence, after: number, most: 20 },
                Change::Loop { by: Part::Token, after: number, most: 20 },
                Change::Extend { times: 3, most: 20 },
                Change::Shorten { keep: number },
                Change::Garble { rate: 0.5, after: number },
            ] {
                let (_, seen, said) = changed(change, &text);
                proptest::prop_assert!(said <= seen.max(20));
            }
        }
    }
}
