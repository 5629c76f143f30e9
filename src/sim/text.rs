//! Answers of the simulated model: readable sentences that quote the context they were given, of
//! an exact length in tokens, the same for the same seed and prompt. No meaning is promised.

use super::{tokens, words};
use crate::dice::{Dice, hash_bytes};

/// What the model was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The user's last words.
    pub(super) question: String,
    /// All that was said before and around it: instructions, context, tool results.
    pub(super) context: String,
}

impl Prompt {
    /// A prompt from all texts in order, the last of which asks. Where that text carries context
    /// of its own (`Context: … Question: …`), its question alone counts as asked.
    pub(super) fn from_texts(earlier: &[&str], last: &str) -> Self {
        let (context, question) = split_question(last);
        let mut all: Vec<&str> = earlier.to_vec();
        all.push(context);
        Self { question: question.to_owned(), context: all.join("\n") }
    }

    /// The stream of chance that belongs to this prompt.
    pub(super) fn dice(&self, root: &Dice) -> Dice {
        root.fork_number(hash_bytes(self.question.as_bytes()))
            .fork_number(hash_bytes(self.context.as_bytes()))
    }

    /// What the question is about, in a few words.
    pub(super) fn topic(&self) -> String {
        let mut words = words::keywords(&self.question);
        if words.is_empty() {
            words = words::keywords(&self.context);
        }
        words.truncate(3);
        if words.is_empty() { "that".to_owned() } else { words.join(" ") }
    }
}

fn split_question(text: &str) -> (&str, &str) {
    for mark in ["Question:", "question:", "QUESTION:", "Query:", "User:"] {
        if let Some(at) = text.rfind(mark) {
            return (&text[..at], text[at + mark.len()..].trim());
        }
    }
    let long = tokens::count(text) > 60;
    match words::sentences(text).last() {
        Some(last) if long && last.ends_with('?') => (text.strip_suffix(last).unwrap_or(""), last),
        _ => ("", text.trim()),
    }
}

const OPENINGS: &[&str] = &[
    "Here is what I found about {topic}.",
    "The short answer on {topic} is below.",
    "Good question about {topic}.",
    "This is how {topic} works.",
];

const QUOTES: &[&str] = &[
    "According to the documentation: {quote}",
    "The source says: {quote}",
    "It also states: {quote}",
    "{quote}",
];

const FILLERS: &[&str] = &[
    "In practice, {a} depends on how {b} is set up.",
    "If {a} does not work at once, check {b} first.",
    "You can review {a} at any time on the settings page.",
    "Most people start with {a} and come to {b} later.",
    "A change to {a} takes effect within a few minutes.",
    "When {a} and {b} disagree, the newer one wins.",
    "Keep a note of {a}, since support will ask for it.",
    "There is no need to repeat this for {b}.",
    "For {a}, the usual order is to save, wait and reload the page.",
    "An administrator can do the same for {a} on behalf of others.",
    "Nothing about {b} is lost while you do this.",
    "If {b} still looks wrong afterwards, sign out and in again.",
];

/// Closing sentences of every length that may be left over, from one token up.
const CLOSINGS: &[&str] = &[
    "Done",
    "Yes.",
    "That works.",
    "Hope that helps.",
    "I hope this helps.",
    "I am glad to help.",
    "Ask me again at any time.",
    "You can ask me at any time.",
    "Tell me if any of this is unclear.",
    "Please tell me if you would like some more.",
];

/// The shortest closing that is a sentence of its own.
const SHORTEST: usize = 4;

/// Writes an answer of exactly `length` tokens.
pub(super) fn answer(prompt: &Prompt, dice: &mut Dice, length: usize) -> String {
    let topic = prompt.topic();
    let mut writer = Writer { text: String::new(), left: length };
    writer.offer(&pick(dice, OPENINGS).replace("{topic}", &topic));
    for (index, quote) in quotes(prompt).iter().enumerate() {
        let form = QUOTES[index.min(QUOTES.len() - 1)];
        writer.offer(&form.replace("{quote}", quote));
    }
    let subjects = subjects(prompt);
    while writer.left > 0 {
        for filler in shuffled(dice, FILLERS) {
            let (a, b) = two(dice, &subjects);
            if !writer.offer(&filler.replace("{a}", a).replace("{b}", b)) {
                writer.close();
            }
        }
    }
    writer.text
}

/// One sentence about the prompt, for values of structured answers.
pub(super) fn sentence(prompt: &Prompt, dice: &mut Dice) -> String {
    match quotes(prompt).first() {
        Some(quote) => quote.clone(),
        None => pick(dice, OPENINGS).replace("{topic}", &prompt.topic()),
    }
}

struct Writer {
    text: String,
    left: usize,
}

impl Writer {
    /// Adds a sentence if it fits and leaves room for a closing one.
    fn offer(&mut self, sentence: &str) -> bool {
        let spaced =
            if self.text.is_empty() { sentence.to_owned() } else { format!(" {sentence}") };
        let tokens = tokens::count(&spaced);
        let fits = tokens == self.left || tokens + SHORTEST <= self.left;
        if fits {
            self.text.push_str(&spaced);
            self.left -= tokens;
        }
        fits
    }

    /// Adds a closing sentence; whatever is left over is always a sum of closings.
    fn close(&mut self) {
        let fitting = CLOSINGS.iter().rev().any(|closing| self.offer(closing));
        if !fitting {
            self.left = 0;
        }
    }
}

fn pick<'a, S: AsRef<str>>(dice: &mut Dice, list: &'a [S]) -> &'a str {
    list[dice.whole(0, list.len() as u64 - 1) as usize].as_ref()
}

fn shuffled<'a>(dice: &mut Dice, list: &[&'a str]) -> Vec<&'a str> {
    let mut order: Vec<(u64, &str)> = list.iter().map(|item| (dice.bits(), *item)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, item)| item).collect()
}

/// Two items, different ones where there are two.
fn two<'a>(dice: &mut Dice, list: &'a [String]) -> (&'a str, &'a str) {
    let first = dice.whole(0, list.len() as u64 - 1) as usize;
    let step = dice.whole(1, (list.len() as u64 - 1).max(1)) as usize;
    (&list[first], &list[(first + step) % list.len()])
}

/// What the fillers may speak of.
fn subjects(prompt: &Prompt) -> Vec<String> {
    let mut found = words::keywords(&prompt.question);
    found.extend(words::keywords(&prompt.context).into_iter().take(40));
    found.retain(|word| word.len() <= 24 && word.chars().all(char::is_alphabetic));
    found.dedup();
    if found.is_empty() {
        found = vec!["the account".to_owned(), "the plan".to_owned()];
    }
    found
}

/// The sentences of the context that share most words with the question, best first.
fn quotes(prompt: &Prompt) -> Vec<String> {
    let asked: Vec<String> = words::keywords(&prompt.question);
    let stems: Vec<&str> = asked.iter().map(|word| words::stem(word)).collect();
    let mut found: Vec<(usize, &str)> = words::sentences(&prompt.context)
        .filter(|sentence| is_quotable(sentence))
        .map(|sentence| {
            let shared = words::keywords(sentence)
                .iter()
                .filter(|word| stems.contains(&words::stem(word)))
                .count();
            (shared, sentence)
        })
        .filter(|(shared, _)| *shared > 0)
        .collect();
    found.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    found.dedup_by_key(|(_, sentence)| *sentence);
    found.iter().take(3).map(|(_, sentence)| (*sentence).to_owned()).collect()
}

/// Whole sentences of a common length: no headings, no dumps of data.
fn is_quotable(sentence: &str) -> bool {
    (20..400).contains(&sentence.len()) && sentence.ends_with(['.', '!'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(seed: u64, prompt: &Prompt, length: usize) -> String {
        answer(prompt, &mut prompt.dice(&Dice::from_seed(seed)), length)
    }

    #[test]
    fn closings_cover_every_rest() {
        for (index, closing) in CLOSINGS.iter().enumerate() {
            assert_eq!(tokens::count(closing), index + 1, "{closing}");
        }
    }

    #[test]
    fn answers_have_the_length_asked_for() {
        let prompt = Prompt::from_texts(&["You are a helpful assistant."], "How do refunds work?");
        for length in 0..200 {
            let text = write(1, &prompt, length);
            assert_eq!(tokens::count(&text), length, "{text}");
        }
    }

    #[test]
    fn answers_quote_the_context() {
        let prompt = Prompt::from_texts(
            &[],
            "Context:\n[1] Refunds: A refund takes five working days to arrive. \
             Our office is in Basel.\n\nQuestion: How long does a refund take?",
        );
        let text = write(3, &prompt, 80);
        assert!(text.contains("A refund takes five working days"), "{text}");
        assert!(!text.contains("Basel"), "{text}");
    }

    #[test]
    fn the_same_seed_and_prompt_give_the_same_answer() {
        let prompt = Prompt::from_texts(&[], "Tell me about webhooks");
        assert_eq!(write(5, &prompt, 90), write(5, &prompt, 90));
        assert_ne!(write(5, &prompt, 90), write(6, &prompt, 90));
        let other = Prompt::from_texts(&["Be brief."], "Tell me about webhooks");
        assert_ne!(write(5, &prompt, 90), write(5, &other, 90));
    }

    proptest::proptest! {
        #[test]
        fn any_prompt_gets_an_answer(context in "\\PC{0,200}", last in "\\PC{0,60}", length in 0usize..120) {
            let prompt = Prompt::from_texts(&[&context], &last);
            proptest::prop_assert_eq!(tokens::count(&write(9, &prompt, length)), length);
        }
    }
}
