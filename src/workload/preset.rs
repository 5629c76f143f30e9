//! The built-in prompts: made up from parts by number, with the lengths of real traffic.
//!
//! Lengths are log-normal; the medians and spreads follow published traces of production traffic.

use serde_json::{Map, Value};

use super::Prompt;
use crate::dice::Dice;

/// The names of the built-in sets.
pub const PRESETS: &[&str] = &["agent", "chat", "long-context", "mixed", "rag-support"];

/// A built-in set of prompts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Tasks for an agent with tools: goal, constraints, the form of the result.
    Agent,
    /// A user's message to a general assistant: mostly a few lines, now and then a page.
    Chat,
    /// A pasted document of 1,500 to 20,000 tokens with a question on it.
    LongContext,
    /// All of them: 55 % chat, 30 % support, 10 % agent, 5 % long context.
    Mixed,
    /// A customer's question, answered from a knowledge base: one to three sentences.
    RagSupport,
}

impl Preset {
    /// How many different prompts each set has: few enough that each is asked more than once
    /// early in a run, since only then is it known how long its answers usually are.
    pub const COUNT: u64 = 40;

    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "agent" => Self::Agent,
            "chat" => Self::Chat,
            "long-context" => Self::LongContext,
            "mixed" => Self::Mixed,
            "rag-support" => Self::RagSupport,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Chat => "chat",
            Self::LongContext => "long-context",
            Self::Mixed => "mixed",
            Self::RagSupport => "rag-support",
        }
    }

    /// The prompt with this number; its fields are `text`, `topic`, `kind` and `id`.
    pub fn prompt(self, number: u64) -> Prompt {
        let number = number % Self::COUNT;
        let dice = Dice::from_seed(PRESET_SEED).fork(self.name()).fork_number(number);
        let kind = match self {
            Self::Mixed => match number % 20 {
                0..11 => Self::Chat,
                11..17 => Self::RagSupport,
                17..19 => Self::Agent,
                _ => Self::LongContext,
            },
            one => one,
        };
        let mut draft = Draft { text: String::with_capacity(256), dice };
        let topic = match kind {
            Self::Agent => agent(&mut draft),
            Self::LongContext => long_context(&mut draft),
            Self::RagSupport => support(&mut draft),
            Self::Chat | Self::Mixed => chat(&mut draft),
        };
        let text = draft.text;
        let fields = Map::from_iter([
            ("text".to_owned(), Value::String(text.clone())),
            ("topic".to_owned(), Value::String(topic.to_owned())),
            ("kind".to_owned(), Value::String(kind.name().to_owned())),
            ("id".to_owned(), Value::String(format!("{}-{number}", self.name()))),
        ]);
        Prompt { text, fields }
    }
}

/// The texts belong to their numbers for ever, whatever a run's seed is.
const PRESET_SEED: u64 = 1;

/// A text being written, and the chance behind it.
struct Draft {
    text: String,
    dice: Dice,
}

impl Draft {
    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.dice.whole(0, from.len() as u64 - 1) as usize]
    }

    /// Writes a pattern; `{}` stands for the next of the parts.
    fn write(&mut self, pattern: &str, parts: &[&str]) {
        if !self.text.is_empty() && !self.text.ends_with(['\n', ' ']) {
            self.text.push(' ');
        }
        let mut parts = parts.iter();
        let mut pieces = pattern.split("{}");
        self.text.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            self.text.push_str(parts.next().copied().unwrap_or_default());
            self.text.push_str(piece);
        }
    }

    /// A length in bytes: log-normal in tokens (of 4 bytes), within bounds.
    fn length(&mut self, median: f64, sigma: f64, most: f64) -> usize {
        ((median * (sigma * self.dice.normal()).exp()).min(most) * 4.0) as usize
    }

    /// Adds up to so many of the sentences, none twice, while the text is shorter than this.
    fn deal(&mut self, from: &[&'static str], count: usize, length: usize) {
        let first = self.dice.whole(0, from.len() as u64 - 1) as usize;
        for nth in 0..count.min(from.len()) {
            if self.text.len() >= length {
                break;
            }
            let number = self.dice.whole(2, 60).to_string();
            self.write(from[(first + nth) % from.len()], &[&number]);
        }
    }

    /// Adds sentences on the topic until the text is this long.
    fn fill(&mut self, topic: &str, length: usize) {
        let mut sentences = 0;
        while self.text.len() < length {
            let pattern = self.pick(SENTENCES);
            let (noun, verb, quality) = (self.pick(NOUNS), self.pick(VERBS), self.pick(QUALITIES));
            let number = self.dice.whole(2, 480).to_string();
            sentences += 1;
            // Every pattern takes what it needs, in this order.
            self.write(pattern, &[noun, verb, topic, quality, &number]);
            if sentences % 6 == 0 && self.text.len() < length {
                self.text.push_str("\n\n");
            }
        }
    }
}

/// A user's message: median 45 tokens, one in a hundred above 450.
fn chat(draft: &mut Draft) -> &'static str {
    let topic = draft.pick(TOPICS);
    let (opening, aim) = (draft.pick(CHAT_OPENINGS), draft.pick(CHAT_AIMS));
    let length = draft.length(45.0, 1.0, 2000.0);
    draft.write(opening, &[topic, aim]);
    draft.deal(CHAT_DETAILS, CHAT_DETAILS.len(), length);
    if draft.text.len() + 60 < length {
        draft.text.push_str("\n\nHere is what I have so far.");
        draft.fill(topic, length);
    }
    topic
}

/// A customer's question: median 28 tokens.
fn support(draft: &mut Draft) -> &'static str {
    let product = draft.pick(PRODUCTS);
    let (question, trouble) = (draft.pick(SUPPORT_QUESTIONS), draft.pick(TROUBLES));
    draft.write(question, &[product, trouble]);
    let details = draft.dice.whole(0, 2) as usize;
    draft.deal(SUPPORT_DETAILS, details, usize::MAX);
    product
}

/// A task of an agent: median 150 tokens.
fn agent(draft: &mut Draft) -> &'static str {
    let topic = draft.pick(TOPICS);
    let goal = draft.pick(AGENT_GOALS);
    draft.write(goal, &[topic]);
    draft.text.push_str("\n\nRules:\n");
    let rules = draft.dice.whole(2, 5);
    let first = draft.dice.whole(0, AGENT_RULES.len() as u64 - 1);
    for number in 1..=rules {
        let rule = AGENT_RULES[((first + number) % AGENT_RULES.len() as u64) as usize];
        let limit = draft.dice.whole(2, 12).to_string();
        draft.write("{}. ", &[&number.to_string()]);
        draft.write(rule, &[&limit]);
        draft.text.push('\n');
    }
    draft.text.push('\n');
    let form = draft.pick(AGENT_FORMS);
    draft.write(form, &[]);
    draft.text.push_str("\n\nWhat is known so far: ");
    let length = draft.text.len() + draft.length(40.0, 1.2, 1500.0).max(1);
    draft.fill(topic, length);
    topic
}

/// A document and a question on it: median 5,000 tokens.
fn long_context(draft: &mut Draft) -> &'static str {
    let topic = draft.pick(TOPICS);
    let length = draft.length(5000.0, 0.75, 20_000.0).max(6000);
    draft.write("Here is a document on {}.\n\n---\n", &[topic]);
    draft.fill(topic, length);
    draft.text.push_str("\n---\n\n");
    let question = draft.pick(DOCUMENT_QUESTIONS);
    draft.write(question, &[topic]);
    topic
}

const TOPICS: &[&str] = &[
    "container orchestration",
    "home insurance",
    "sourdough baking",
    "protein folding",
    "train timetables",
    "invoice matching",
    "electric heat pumps",
    "database indexing",
    "urban beekeeping",
    "customs declarations",
    "marathon training",
    "solar inverters",
    "clinical trial protocols",
    "rental contracts",
    "video compression",
    "soil moisture sensors",
    "medieval trade routes",
    "payroll accounting",
    "bicycle repair",
    "weather forecasting",
    "password policies",
    "warehouse picking",
    "tax deductions",
    "language learning",
];

const NOUNS: &[&str] = &[
    "the report",
    "our team",
    "the supplier",
    "the new process",
    "a second review",
    "the schedule",
    "the old system",
    "the draft",
    "one of the customers",
    "the data set",
    "the pilot",
    "the contractor",
    "the night shift",
    "the audit",
    "the checklist",
];

const VERBS: &[&str] = &[
    "depends on",
    "does not mention",
    "was built around",
    "keeps running into",
    "explains",
    "has changed how we think about",
    "is blocked by",
    "was compared with",
    "sets the limits of",
    "leaves out",
    "follows from",
];

const QUALITIES: &[&str] = &[
    "the lower estimate",
    "the higher cost",
    "the shorter deadline",
    "the missing figures",
    "the earlier decision",
    "the known exceptions",
    "the first quarter",
    "the written agreement",
    "the measured values",
    "the local rules",
];

const SENTENCES: &[&str] = &[
    "In practice {} {} {} in light of {}, about {} times a month.",
    "As far as we know {} {} {}, and {} came up in {} of the cases.",
    "Since last week {} {} {}; {} was given as the reason in {} places.",
    "It seems that {} {} {}, although {} would say otherwise on page {}.",
    "Note that {} {} {}, with {} counted per {} units.",
    "When {} {} {}, {} should be checked within {} days.",
];

const CHAT_DETAILS: &[&str] = &[
    "I have about {} hours a week for it.",
    "So far I have only read one article, and it was {} years old.",
    "My budget is around {} euros.",
    "Please keep it under {} lines if you can.",
    "A friend told me to start small, but she has done this for {} years.",
    "I tried it {} times already and always gave up half way.",
    "There are {} of us, and nobody agrees on anything.",
    "It does not have to be perfect, it has to be ready in {} days.",
    "I do not want to buy anything new before I am sure, at least not in the next {} weeks.",
    "If there is a rule of thumb, give me that first, then {} details at most.",
];

const CHAT_OPENINGS: &[&str] = &[
    "Can you explain {} to me? I would like {}.",
    "I am new to {} and need {}.",
    "What should I know about {} before I start? Please give me {}.",
    "I read a lot about {} lately. Write {}.",
    "Help me with {}: I need {} by tomorrow.",
    "We had an argument at work over {}. Could you give {}?",
    "Compare two ways of going about {} and end with {}.",
    "Is there a simple rule for {}? If so, {} would be enough.",
];

const CHAT_AIMS: &[&str] = &[
    "a short overview with an example",
    "a step by step plan",
    "three options with their costs",
    "a friendly email to a colleague",
    "a table of the main terms",
    "the most common mistakes",
    "a summary for somebody without background",
    "a list of questions to ask an expert",
];

const PRODUCTS: &[&str] = &[
    "the X200 router",
    "my subscription",
    "order 48213",
    "the mobile app",
    "the standing desk",
    "the family plan",
    "the smart thermostat",
    "the annual invoice",
    "my loyalty points",
    "the wireless headset",
    "the gift card",
    "the coffee machine",
    "two-factor login",
    "the delivery slot",
    "the warranty",
    "the student discount",
];

const TROUBLES: &[&str] = &[
    "it stopped working after the last update",
    "I was charged twice",
    "it never arrived",
    "the page shows an error",
    "I moved to another country",
    "the code is not accepted",
    "the light keeps blinking red",
    "I forgot my password",
    "I want my money back",
    "it is not the one I ordered",
    "the trial is over",
];

const SUPPORT_QUESTIONS: &[&str] = &[
    "What can I do about {} when {}?",
    "How do I cancel {}? The reason is that {}.",
    "Hi, I have a question on {}: {}. What now?",
    "Is {} covered if {}?",
    "Where do I find the settings of {}, since {}?",
    "How long does it take to replace {} when {}?",
    "Who do I talk to about {}? I think {}.",
];

const SUPPORT_DETAILS: &[&str] = &[
    "I already tried to restart it {} times.",
    "I bought it {} days ago.",
    "Your colleague told me to wait {} hours.",
    "Please answer in simple words.",
    "This is urgent, I have been waiting for {} days!",
    "I have the receipt with the number ending in {}.",
];

const AGENT_GOALS: &[&str] = &[
    "Research {} and recommend one way to go.",
    "Find out what changed in {} this year and who is affected.",
    "Plan a two-week project on {}, with owners and risks.",
    "Collect the numbers we have on {} and check them against each other.",
    "Triage the open requests about {} and draft an answer to each.",
    "Compare the three largest vendors for {} and fill in the score card.",
];

const AGENT_RULES: &[&str] = &[
    "Use the search tool before you state a fact.",
    "Call no tool more than {} times.",
    "Ask at most {} questions back.",
    "If two sources disagree, name both.",
    "Stop after {} steps and report what is missing.",
    "Do not send anything to anybody; drafts only.",
    "Keep each step under {} sentences.",
];

const AGENT_FORMS: &[&str] = &[
    "Answer with a JSON object that has `summary`, `steps` and `sources`.",
    "Answer with a short memo: situation, options, recommendation.",
    "Answer with a numbered list, the most important point first.",
    "Answer with a table of at most ten rows.",
];

const DOCUMENT_QUESTIONS: &[&str] = &[
    "Summarise what the document says on {} in five sentences.",
    "Which statements about {} contradict each other? Quote them.",
    "List every number given for {} with its context.",
    "What would you ask the author about {}?",
    "Which deadlines follow from the text on {}?",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all(preset: Preset) -> impl Iterator<Item = Prompt> {
        (0..Preset::COUNT).map(move |number| preset.prompt(number))
    }

    #[test]
    fn same_number_same_text() {
        for name in PRESETS {
            let preset = Preset::named(name).unwrap();
            assert_eq!(preset.name(), *name);
            assert_eq!(preset.prompt(17), preset.prompt(17));
            assert_eq!(preset.prompt(17).text, preset.prompt(17 + Preset::COUNT).text);
            assert_ne!(preset.prompt(17).text, preset.prompt(18).text);
        }
    }

    #[test]
    fn lengths_are_those_of_their_kind() {
        let lengths = |preset| {
            let mut lengths: Vec<usize> = all(preset).map(|prompt| prompt.text.len()).collect();
            lengths.sort_unstable();
            (lengths[20], lengths[39])
        };
        let (median, longest) = lengths(Preset::Chat);
        assert!((120..400).contains(&median) && longest > 600, "{median} {longest}");
        let (median, longest) = lengths(Preset::RagSupport);
        assert!((60..160).contains(&median) && longest < 400, "{median} {longest}");
        let (median, longest) = lengths(Preset::LongContext);
        assert!((12_000..32_000).contains(&median) && longest < 90_000, "{median} {longest}");
    }

    #[test]
    fn prompts_of_a_set_differ() {
        for name in PRESETS {
            let preset = Preset::named(name).unwrap();
            let texts: std::collections::HashSet<String> =
                all(preset).map(|prompt| prompt.text).collect();
            assert_eq!(texts.len() as u64, Preset::COUNT, "{name}");
        }
    }

    #[test]
    fn mixes_hold_every_kind() {
        let kinds: Vec<Prompt> = all(Preset::Mixed).collect();
        for (kind, n) in [("chat", 22), ("rag-support", 12), ("agent", 4), ("long-context", 2)] {
            let found = kinds.iter().filter(|prompt| prompt.fields["kind"] == kind).count();
            assert_eq!(found, n, "{kind}");
        }
    }

    #[test]
    fn no_pattern_is_left_unfilled() {
        for name in PRESETS {
            let preset = Preset::named(name).unwrap();
            for Prompt { text, .. } in all(preset) {
                assert!(!text.contains("{}"), "{text}");
                assert!(!text.contains("  "), "{text}");
            }
        }
    }
}
