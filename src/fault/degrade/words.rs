//! What degraded answers say: tokens of other languages and scripts, the words of a refusal, and
//! how a text is split into tokens without a model.

use schemars::JsonSchema;
use serde::Deserialize;

/// A language of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    Arabic,
    Chinese,
    English,
    #[default]
    French,
    German,
    Japanese,
    Russian,
    Spanish,
}

impl Language {
    /// The tokens of a few sentences, over and over.
    pub(super) fn token(self, number: u64) -> &'static str {
        let tokens = self.tokens();
        tokens[(number % tokens.len() as u64) as usize]
    }

    fn tokens(self) -> &'static [&'static str] {
        match self {
            Self::Arabic => &[
                " يمكن", " العثور", " على", " الإجابة", " في", " الوثيقة", ".", " يرجى", " قراءة",
                " التفاصيل", " قبل", " المتابعة", ".",
            ],
            Self::Chinese => &[
                "答案", "可以", "在", "文档", "中", "找到", "。", "请", "先", "阅读", "说明", "再",
                "继续", "。",
            ],
            Self::English => &[
                " The", " answer", " can", " be", " found", " in", " the", " document", ".",
                " Please", " read", " it", " before", " you", " go", " on", ".",
            ],
            Self::French => &[
                " La", " réponse", " se", " trouve", " dans", " le", " document", ".", " Veuillez",
                " lire", " les", " détails", " avant", " de", " continuer", ".",
            ],
            Self::German => &[
                " Die", " Antwort", " steht", " im", " Dokument", ".", " Bitte", " lesen", " Sie",
                " es", ",", " bevor", " Sie", " fortfahren", ".",
            ],
            Self::Japanese => &[
                "答え", "は", "文書", "の", "中", "に", "あります", "。", "続ける", "前", "に",
                "お読み", "ください", "。",
            ],
            Self::Russian => &[
                " Ответ", " находится", " в", " документе", ".", " Пожалуйста", ",", " прочитайте",
                " его", " перед", " тем", ",", " как", " продолжить", ".",
            ],
            Self::Spanish => &[
                " La", " respuesta", " se", " encuentra", " en", " el", " documento", ".", " Lea",
                " los", " detalles", " antes", " de", " continuar", ".",
            ],
        }
    }
}

/// Tokens of scripts that do not belong into most answers (Thai, Chinese, Korean, Arabic, Georgian).
pub(super) const WRONG: &[&str] =
    &["สวัสดี", "ครับ", "的", "我们", "합니다", "는", "ويكي", "لل", "ქვეყანა", "на", "ნები", "ます"];

/// What a model says that will not answer.
pub(super) const REFUSAL: &str = "I'm sorry, but I can't assist with that request.";

/// A text in pieces of about a token: a word with the space before it, a mark, a sign of a script
/// without spaces. A piece of a stream that is one token stays whole.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut last: Option<Kind> = None;
    for (at, c) in text.char_indices() {
        let kind = Kind::of(c);
        let joins = match last {
            None => true,
            Some(Kind::Space) => kind == Kind::Space || text[start..at].chars().count() == 1,
            Some(Kind::Word) => kind == Kind::Word,
            Some(Kind::Mark) => kind == Kind::Mark,
            Some(Kind::Sign) => false,
        };
        if !joins {
            pieces.push(&text[start..at]);
            start = at;
        }
        last = Some(kind);
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mark,
    /// Of a script that is written without spaces.
    Sign,
    Space,
    Word,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            _ if c.is_whitespace() => Self::Space,
            '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' => Self::Sign,
            _ if c.is_alphanumeric() || c == '\'' || c == '’' || c == '_' => Self::Word,
            _ => Self::Mark,
        }
    }
}

/// Whether a token ends a sentence.
pub(super) fn ends_sentence(token: &str) -> bool {
    token.trim_end().ends_with(['.', '!', '?', '。', '\n'])
        || token.ends_with('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_split_into_words_marks_and_signs() {
        assert_eq!(tokens("Don't go,  now."), ["Don't", " go", ",", "  ", "now", "."]);
        assert_eq!(tokens(" word"), [" word"]);
        assert_eq!(tokens("答案 x"), ["答", "案", " x"]);
        assert_eq!(tokens("\n\nA"), ["\n\n", "A"]);
        assert!(tokens("").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_character_is_lost(text in ".{0,60}") {
            proptest::prop_assert_eq!(tokens(&text).concat(), text);
        }
    }
}
