//! The app with its bug mended: it waits as it is told, spends retries from a budget, falls back to
//! its sources, and never passes half an answer off as a whole one.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::timeout;

use super::dependency::{Dependencies, Said, Stream, Trouble};
use super::rag;
use super::reply::Reply;
use crate::dice::Dice;

/// Tries of one call, the first included.
const TRIES: u32 = 3;
/// A user waits this long for a retry and no longer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The first pause before a retry; each later one may be twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// For the lookups, and for the model's first word.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);
/// From one word to the next.
const WORD_WITHIN: Duration = Duration::from_secs(4);

/// What all conversations share.
#[derive(Debug)]
pub(super) struct Careful {
    /// One for each dependency.
    budgets: Mutex<BTreeMap<&'static str, Budget>>,
    dice: Mutex<Dice>,
}

/// Retries the process may spend on a dependency: a few at once, and then a tenth of its calls.
#[derive(Debug)]
struct Budget {
    retries: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { retries: Self::MOST }
    }
}

impl Budget {
    const MOST: f64 = 5.0;
    const PER_CALL: f64 = 0.1;

    fn earn(&mut self) {
        self.retries = (self.retries + Self::PER_CALL).min(Self::MOST);
    }

    fn spend(&mut self) -> bool {
        let enough = self.retries >= 1.0;
        if enough {
            self.retries -= 1.0;
        }
        enough
    }
}

/// How a stream of the model came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Whole,
    Cut,
}

impl Careful {
    pub(super) fn new() -> Self {
        Self { budgets: Mutex::default(), dice: Mutex::new(Dice::from_seed(Dice::fresh_seed())) }
    }

    pub(super) async fn answer(
        &self,
        dependencies: &Dependencies,
        question: &str,
        carried: &HeaderMap,
        reply: &Reply,
    ) {
        let Ok(documents) = self.look_up(dependencies, question, carried).await else {
            return fall_back(reply, &[]).await;
        };
        let request = rag::chat_request(question, &documents);
        let asked =
            self.patiently("llm", |attempt| dependencies.ask(&request, carried, attempt)).await;
        let Ok(stream) = asked else {
            return fall_back(reply, &documents).await;
        };
        let mut said = String::new();
        let mut ending = pass_on(stream, reply, &mut said).await;
        if ending == Ending::Cut && said.is_empty() {
            return fall_back(reply, &documents).await;
        }
        if ending == Ending::Cut && self.budget("llm", Budget::spend) {
            let request = rag::continuation(&request, &said);
            if let Ok(Ok(stream)) =
                timeout(ANSWER_WITHIN, dependencies.ask(&request, carried, 1)).await
            {
                ending = pass_on(stream, reply, &mut said).await;
            }
        }
        match ending {
            Ending::Whole => reply.done(&rag::sources(&documents), false).await,
            Ending::Cut => reply.fail("the answer was cut off; please ask again").await,
        }
    }

    async fn look_up(
        &self,
        dependencies: &Dependencies,
        question: &str,
        carried: &HeaderMap,
    ) -> Result<Vec<Value>, Trouble> {
        let request = rag::embedding_request(question);
        let embedded = self
            .patiently("embeddings", |attempt| dependencies.embed(&request, carried, attempt))
            .await?;
        let vector = rag::vector(&embedded).ok_or(Trouble::Garbled { dependency: "embeddings" })?;
        let request = rag::search_request(vector);
        let found = self
            .patiently("vectors", |attempt| dependencies.search(&request, carried, attempt))
            .await?;
        rag::documents(&found).ok_or(Trouble::Garbled { dependency: "vectors" })
    }

    /// Makes a call, and again after a pause, as long as that may help and the budget lasts.
    async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        dependency: &'static str,
        call: impl Fn(u32) -> F,
    ) -> Result<T, Trouble> {
        self.budget(dependency, Budget::earn);
        let mut waited = Duration::ZERO;
        let mut attempt = 0;
        loop {
            // Whoever was slow once is not asked again: the user has waited long enough.
            let Ok(result) = timeout(ANSWER_WITHIN, call(attempt)).await else {
                return Err(Trouble::Late { dependency });
            };
            let trouble = match result {
                Err(trouble) if trouble.may_pass() && attempt + 1 < TRIES => trouble,
                result => return result,
            };
            let pause = self.pause(attempt, trouble.retry_after());
            if waited + pause > PATIENCE || !self.budget(dependency, Budget::spend) {
                return Err(trouble);
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            attempt += 1;
        }
    }

    fn budget<T>(&self, dependency: &'static str, act: impl FnOnce(&mut Budget) -> T) -> T {
        act(self.budgets.lock().entry(dependency).or_default())
    }

    /// Never shorter than told; with jitter, so that not all come back at the same moment.
    fn pause(&self, attempt: u32, told: Option<Duration>) -> Duration {
        let most = PAUSE.saturating_mul(2u32.saturating_pow(attempt));
        let jitter = most.mul_f64(self.dice.lock().between(0.5, 1.0));
        told.map_or(jitter, |told| told.saturating_add(jitter.mul_f64(0.5)))
    }
}

async fn fall_back(reply: &Reply, documents: &[Value]) {
    for word in rag::fallback(documents).split_inclusive(char::is_whitespace) {
        reply.delta(word).await;
    }
    reply.done(&rag::sources(documents), true).await;
}

/// Hands on what comes, and tells whether the model itself said that it had finished. An answer
/// that ran into a length nobody asked for is cut, too.
async fn pass_on(mut stream: Stream, reply: &Reply, said: &mut String) -> Ending {
    let mut ending = Ending::Cut;
    loop {
        let wait = if said.is_empty() { ANSWER_WITHIN } else { WORD_WITHIN };
        match timeout(wait, stream.next()).await {
            Ok(Ok(Some(Said::Text(text)))) => {
                reply.delta(&text).await;
                said.push_str(&text);
            }
            Ok(Ok(Some(Said::Finish(reason)))) if reason != "length" => ending = Ending::Whole,
            Ok(Ok(Some(Said::Finish(_)))) => {}
            _ => return ending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_allows_a_tenth_of_the_calls() {
        let mut budget = Budget { retries: 0.0 };
        let retries = (0..200)
            .filter(|_| {
                budget.earn();
                budget.spend()
            })
            .count();
        assert!((19..=20).contains(&retries), "{retries}");
    }

    #[test]
    fn pauses_are_never_shorter_than_told() {
        let careful = Careful::new();
        for attempt in 0..5 {
            let told = Duration::from_millis(700);
            assert!(careful.pause(attempt, Some(told)) >= told);
            assert!(careful.pause(attempt, None) >= PAUSE / 2);
        }
    }
}
