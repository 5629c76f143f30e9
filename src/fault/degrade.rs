//! Answers of a model that does badly: too short, too long, in a loop, empty, refused, in another
//! language, with tokens of other scripts; another model's name, a wrong end, wrong counts; the
//! answer of another request. Texts change token by token as they pass.

mod dress;
mod stale;
mod text;
mod words;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use http::response;
use schemars::JsonSchema;
use serde::Deserialize;

use self::dress::{Dress, Usage};
use self::stale::{Answers, Asked, Whose};
use self::text::{Part, Text};
use self::words::Language;
use self::writer::{Plan, Writer};
use super::answer::{Lanes, Opened, Reader};
use super::lengths::Lengths;
use super::place::unreadable;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Orders, Place, Spec};
use crate::dialect::{Reason, Slot, Spot};
use crate::exchange::{Event, Grain, Item, Level, Operation};
use crate::units::Percent;

/// The most tokens of an answer, whatever is asked for.
const MOST: u64 = 131_072;
/// Tokens of a loop where neither the request nor `to` says how many.
const LOOP: u64 = 1024;
/// Where a loop begins, in tokens.
const LOOP_AFTER: u64 = 20;

/// An answer in good form whose content is worse than the model's, or told wrongly.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Degrade {
    /// What becomes of the text: `shorten`, `extend`, `loop`, `empty`, `refusal`, `language`, `garble`
    /// or `drop_tokens`. Token counts in the answer follow where its length changes; log
    /// probabilities do not. Default: it stays.
    pub text: Option<TextChange>,
    /// With `shorten`: what is left of the text, `15 tokens` or `20%`; default 20%. With `loop` and
    /// `extend`: how long the answer gets at most, in tokens up to 131072; default what the request allows,
    /// for `loop` else 1024. How long a live stream will be nobody knows: a share of it is taken from this model's
    /// answers so far.
    pub to: Option<Place>,
    /// With `extend`: how many times the text is said in all, from 2 to 100. Default 3.
    pub times: Option<u64>,
    /// From which token on, with `loop` (default 20 tokens), `language`, `garble` and `drop_tokens`
    /// (default 0 tokens).
    pub after: Option<Place>,
    /// With `loop`: what is repeated, the last `sentence` or the last `token`. Default sentence.
    pub repeat: Option<Part>,
    /// With `language`: which one. Default french.
    pub language: Option<Language>,
    /// With `garble` and `drop_tokens`: how many of the tokens. Each is drawn for itself, with the same
    /// seed always the same ones. Default 5%.
    pub rate: Option<Percent>,
    /// The name of the model that the answer says it comes from. Default: it stays.
    pub model: Option<String>,
    /// Why the answer ended, in the provider's own word for it: `stop`, `length`, `content_filter` or
    /// `tool_calls`. Default: as the upstream said, or as it follows from `text`.
    pub finish: Option<Reason>,
    /// The counts of tokens: `missing`, `zero` or `wrong`. Default: they stay, or follow the text.
    pub usage: Option<Usage>,
    /// With `usage: wrong`: by what the counts are multiplied, from 0 to 1000. Default 10.
    pub factor: Option<f64>,
    /// The text is one that another exchange got while this fault acted on it, from `anyone` or from an
    /// `other_user`: up to 64 answers of 16 KiB are kept. Impossible until there is one; which ones there are depends on
    /// the order in which requests come. Default: no such text.
    pub stale: Option<Whose>,
}

/// What becomes of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextChange {
    /// Tokens are missing in the middle of it (`rate`, `after`).
    DropTokens,
    /// Nothing is left of it, though the answer says that it is complete.
    Empty,
    /// It is said again and again (`times`), up to the most tokens that the request allows.
    Extend,
    /// Some of its tokens are of another script (`rate`, `after`).
    Garble,
    /// It goes on in another language, token for token (`language`, `after`).
    Language,
    /// It gets stuck and repeats itself until it may have no more tokens (`repeat`, `after`, `to`).
    Loop,
    /// The model will not answer, in the provider's own way where it has one (OpenAI's `refusal`,
    /// Anthropic's `stop_reason: refusal`, Gemini's `SAFETY`), else in a sentence.
    Refusal,
    /// Its end is missing, though the answer says that it is complete (`to`).
    Shorten,
}

impl Spec for Degrade {
    const NAME: &'static str = "degrade";
    const SUMMARY: &'static str =
        "an answer in good form but worse: short, looping, refused, garbled, another model's";
    const EXAMPLE: &'static str = "{ text: loop, after: 30 tokens }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        self.check()?;
        let plan = Plan {
            text: self.text,
            to: self.to,
            times: self.times.unwrap_or(3),
            after: self.after,
            repeat: self.repeat.unwrap_or_default(),
            language: self.language.unwrap_or_default(),
            rate: self.rate.map_or(0.05, Percent::share),
        };
        let factor = self.factor.unwrap_or(10.0);
        let dress = Dress { model: self.model.clone(), usage: self.usage, factor };
        let (finish, whose) = (self.finish, self.stale);
        let (lengths, answers) = (Arc::default(), Arc::default());
        Ok(Box::new(Loaded { plan, dress, finish, whose, lengths, answers }))
    }
}

impl Degrade {
    fn check(&self) -> Result<(), Invalid> {
        use TextChange::{DropTokens, Extend, Garble, Language, Loop, Shorten};
        let given = |field, given: bool, with: &[TextChange], words: &str| {
            if given && !self.text.is_some_and(|text| with.contains(&text)) {
                return Err(Invalid::new(field, format!("`{field}` goes with `text: {words}`")));
            }
            Ok(())
        };
        given("to", self.to.is_some(), &[Shorten, Extend, Loop], "shorten`, `extend` or `loop")?;
        given("times", self.times.is_some(), &[Extend], "extend")?;
        given(
            "after",
            self.after.is_some(),
            &[Loop, Language, Garble, DropTokens],
            "loop`, `language`, `garble` or `drop_tokens",
        )?;
        given("repeat", self.repeat.is_some(), &[Loop], "loop")?;
        given("language", self.language.is_some(), &[Language], "language")?;
        given("rate", self.rate.is_some(), &[Garble, DropTokens], "garble` or `drop_tokens")?;
        if self.factor.is_some() && self.usage != Some(Usage::Wrong) {
            return Err(Invalid::new("factor", "`factor` goes with `usage: wrong`"));
        }
        if self.text.is_some() && self.stale.is_some() {
            return Err(Invalid::new("stale", "`stale` is another text already; leave `text` out"));
        }
        if self.text.is_none()
            && self.stale.is_none()
            && self.model.is_none()
            && self.finish.is_none()
            && self.usage.is_none()
        {
            return Err(Invalid::new(
                "",
                "nothing is degraded; name `text`, `model`, `finish`, `usage` or `stale`",
            ));
        }
        self.check_ranges()
    }

    fn check_ranges(&self) -> Result<(), Invalid> {
        let shorten = self.text == Some(TextChange::Shorten);
        match self.to {
            Some(Place::Tokens(1..=MOST)) | None => {}
            Some(Place::Share(share) | Place::TokenShare(share)) if shorten && share > 0.0 => {}
            Some(other) => {
                let share = if shorten { " or 20%" } else { "" };
                let reason = format!("`{other}` is no length; write for example 15 tokens{share}");
                return Err(Invalid::new("to", reason));
            }
        }
        if !matches!(self.after, None | Some(Place::Tokens(0..=MOST))) {
            return Err(Invalid::new("after", "write a number of tokens, for example 30 tokens"));
        }
        if !(2..=100).contains(&self.times.unwrap_or(3)) {
            return Err(Invalid::new("times", "write a number from 2 to 100"));
        }
        if self.rate.is_some_and(|rate| rate.share() == 0.0) {
            return Err(Invalid::new("rate", "0% of the tokens are none; write for example 5%"));
        }
        if !(0.0..=1000.0).contains(&self.factor.unwrap_or(10.0)) {
            return Err(Invalid::new("factor", "write a number from 0 to 1000"));
        }
        if self.model.as_deref().is_some_and(|name| name.is_empty() || name.len() > 256) {
            return Err(Invalid::new("model", "write a name of 1 to 256 bytes"));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Loaded {
    plan: Plan,
    dress: Dress,
    finish: Option<Reason>,
    whose: Option<Whose>,
    lengths: Arc<Lengths>,
    answers: Arc<Answers>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.plan.text.is_some() || self.whose.is_some()
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let exchange = arming.exchange;
        if exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        let facts = &exchange.facts;
        let chat = facts.operation == Operation::Chat;
        let rewrites = self.plan.text.is_some() || self.whose.is_some();
        if !chat && (rewrites || self.finish.is_some()) {
            return Err(Impossible("the request asks for no text of a model"));
        }
        let reader = Reader { dialect: arming.dialect, operation: facts.operation };
        let word = |reason| {
            let none = Impossible("this provider has no word for such an end");
            arming.dialect.reason(facts.operation, reason).ok_or(none)
        };
        let finish = self.finish.map(word).transpose()?;
        let declines = arming.dialect.declines(facts.operation);
        let asked = Asked::of(exchange);
        let script = self.whose.map(|whose| self.answers.draw(&asked, whose, arming.draw));
        let model = facts.model.clone().unwrap_or_default();
        let share = matches!(self.plan.to, Some(Place::Share(_) | Place::TokenShare(_)) | None);
        let assumed = (self.plan.text == Some(TextChange::Shorten) && share && facts.stream)
            .then(|| {
                let guess = facts.max_tokens.unwrap_or(100).into();
                self.lengths.draw(&model, arming.draw.unit("length"), guess)
            });
        Ok(Box::new(Degrading {
            reader,
            writer: Writer {
                plan: self.plan,
                declines,
                script: script.clone().flatten(),
                dice: arming.draw.fork("text"),
                most: facts.max_tokens.map(u64::from),
                assumed,
            },
            dress: self.dress.clone(),
            finish,
            rewrites,
            lanes: Lanes::new(Slot::Text),
            learn: assumed.is_some().then(|| (Arc::clone(&self.lengths), model)),
            keep: self.whose.map(|_| (Arc::clone(&self.answers), asked, String::new())),
            lacks_answer: matches!(script, Some(None)),
            on: true,
            told: Told::default(),
        }))
    }

    fn reset(&self) {
        self.answers.forget();
    }
}

/// What was seen and done.
#[derive(Debug, Default)]
struct Told {
    /// An answer's piece with slots.
    content: bool,
    hit: bool,
}

struct Degrading {
    reader: Reader,
    writer: Writer,
    dress: Dress,
    finish: Option<&'static str>,
    /// The text is to be changed.
    rewrites: bool,
    lanes: Lanes<Text>,
    learn: Option<(Arc<Lengths>, String)>,
    /// Where this answer is kept for others, and its text so far.
    keep: Option<(Arc<Answers>, Asked, String)>,
    /// There was no other exchange's answer.
    lacks_answer: bool,
    on: bool,
    told: Told,
}

impl Effect for Degrading {
    fn grain(&self) -> Grain {
        Grain::Event
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.on = false;
        }
    }

    fn on_item(&mut self, at: Duration, item: Item, out: &mut Orders) {
        let opened = if self.on { self.reader.open(&item) } else { None };
        let Some(mut opened) = opened else { return out.send(item) };
        self.told.content |= !opened.outline.spots.is_empty();
        self.hear(&opened);
        let gone = match &item {
            Item::Event(event) => self.event(at, &mut opened, event, out),
            _ => self.message(&mut opened),
        };
        self.told.hit |= self.dress.model(&mut opened);
        let (counted, only) = self.dress.usage(&mut opened);
        let (seen, said) = self.tokens();
        if self.writer.recounts() {
            self.dress.recount(&mut opened, seen, said);
        }
        let full = self.lanes.rewrites().any(Text::is_full);
        let changed = self.lanes.changed;
        let follows = changed.then(|| self.writer.finish(self.reader, full)).flatten();
        if let Some(word) = self.finish.or(follows) {
            self.told.hit |= opened.end_for(word);
        }
        self.told.hit |= changed | counted;
        if self.told.hit {
            out.hit();
        }
        let is_event = matches!(item, Item::Event(_));
        if !(gone || only && is_event) {
            out.send(opened.close(item));
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if !self.on {
            return;
        }
        let put = self.writer.put(false);
        let dress = self.dress.clone();
        let more = self.lanes.end(self.reader, &put, &|opened| {
            dress.model(opened);
        });
        out.send_all(more);
        let (seen, said) = self.tokens();
        if let Some((lengths, model)) = &self.learn {
            lengths.learn(model, seen, true);
        }
        if let Some((answers, asked, text)) = &self.keep
            && !text.is_empty()
        {
            answers.keep(asked, text);
        }
        if self.told.hit || self.lanes.changed {
            out.hit();
            if self.rewrites {
                out.note("tokens_seen", seen as f64);
                out.note("tokens_sent", said as f64);
            }
            return;
        }
        self.say_why_not(seen, out);
    }
}

impl Degrading {
    /// Changes the texts of an event; whether nothing is left of it.
    fn event(
        &mut self,
        at: Duration,
        opened: &mut Opened,
        event: &Event,
        out: &mut Orders,
    ) -> bool {
        if !self.rewrites || self.lacks_answer {
            return false;
        }
        let (writer, dress) = (&self.writer, &self.dress);
        let mut make = |opened: &Opened, spot: &Spot| writer.text(opened, spot, false);
        let put = writer.put(false);
        let dress = |opened: &mut Opened| {
            dress.model(opened);
        };
        let passed = self.lanes.event(at, opened, event, &mut make, &put, &dress);
        out.send_all(passed.before);
        passed.gone
    }

    fn message(&mut self, opened: &mut Opened) -> bool {
        if self.rewrites && !self.lacks_answer {
            let writer = &self.writer;
            let mut make = |opened: &Opened, spot: &Spot| writer.text(opened, spot, true);
            self.lanes.message(opened, &mut make, &writer.put(true));
        }
        false
    }

    /// Remembers what is said, for others.
    fn hear(&mut self, opened: &Opened) {
        if let Some((_, _, text)) = &mut self.keep {
            let said = opened.outline.text(&opened.payload, Slot::Text);
            if text.len() + said.len() <= stale::TEXT {
                text.push_str(&said);
            }
        }
    }

    /// The tokens that came, and those that went on.
    fn tokens(&self) -> (u64, u64) {
        self.lanes
            .rewrites()
            .fold((0, 0), |(seen, said), text| (seen + text.seen, said + text.said))
    }

    fn say_why_not(&self, seen: u64, out: &mut Orders) {
        if self.lacks_answer {
            out.impossible("no other exchange has got an answer yet");
        } else if !self.told.content {
            out.impossible("the answer has no parts that this dialect knows");
        } else if self.rewrites && seen == 0 {
            out.impossible("the answer has no text");
        } else if self.writer.plan.text == Some(TextChange::Shorten) {
            out.let_go("the text was no longer than what was to be left of it");
        } else if self.rewrites {
            out.let_go("no token of the text was to be changed");
        } else {
            out.let_go("the answer said so already, or does not tell");
        }
    }
}

#[cfg(test)]
mod tests;
