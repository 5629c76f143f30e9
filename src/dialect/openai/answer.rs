//! Reads events and whole answers: chat completions, completions, embeddings, and the text and
//! ends of the responses API and of the Realtime API.

use serde::Deserialize;

use crate::dialect::Reading;
use crate::dialect::words::{Problem, Words};
use crate::exchange::Event;

const TERMINAL: &[u8] = b"[DONE]";

/// A chunk of a stream, or a whole answer.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
    #[serde(borrow, default)]
    object: Words<'a>,
    #[serde(borrow, default)]
    message: Words<'a>,
    // The responses API.
    #[serde(borrow, default, rename = "type")]
    kind: Words<'a>,
    #[serde(borrow, default)]
    delta: Words<'a>,
    #[serde(borrow, default)]
    output: Option<Vec<Output<'a>>>,
    #[serde(borrow, default)]
    status: Words<'a>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default, alias = "message")]
    delta: Option<Delta<'a>>,
    /// Of the older completions.
    #[serde(borrow, default)]
    text: Words<'a>,
    #[serde(borrow, default)]
    finish_reason: Option<Words<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Words<'a>,
    #[serde(borrow, default)]
    reasoning: Words<'a>,
    /// The older name; some servers send both.
    #[serde(borrow, default)]
    reasoning_content: Words<'a>,
    #[serde(borrow, default)]
    refusal: Words<'a>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    arguments: Words<'a>,
}

#[derive(Clone, Copy, Deserialize)]
struct Usage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    // The names of the responses API; some servers send both pairs.
    input_tokens: Option<u32>,
    output_tokens: Option<u32>,
}

impl Usage {
    fn counts(self) -> (u32, u32) {
        let prompt = self.prompt_tokens.or(self.input_tokens).unwrap_or(0);
        (prompt, self.completion_tokens.or(self.output_tokens).unwrap_or(0))
    }
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<Content<'a>>>,
    #[serde(borrow, default)]
    arguments: Words<'a>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    text: Words<'a>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    status: Words<'a>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<Problem<'a>>,
}

/// Reads one event of a stream.
pub(super) fn read_event(event: &Event) -> Reading {
    if event.data.trim_ascii() == TERMINAL {
        return Reading { done: true, ..Reading::default() };
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&event.data) else {
        return Reading::default();
    };
    let mut reading = answer.read();
    // Sound is no text, but each piece of it is one that the listener waits for.
    reading.tokens = u32::from(!reading.text.is_empty() || answer.is_sound());
    reading
}

/// Reads a whole answer.
pub(super) fn read_message(body: &[u8]) -> Reading {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
        return Reading::default();
    };
    let mut reading = answer.read();
    let estimate = (reading.text.len() / 4).max(usize::from(!reading.text.is_empty()));
    reading.tokens = reading
        .usage
        .map_or_else(|| u32::try_from(estimate).unwrap_or(u32::MAX), |(_, completion)| completion);
    reading
}

impl Answer<'_> {
    fn read(&self) -> Reading {
        let mut reading = Reading::default();
        for choice in self.choices.iter().flatten() {
            choice.add_to(&mut reading);
        }
        self.read_response(&mut reading);
        let usage = self.usage.or_else(|| self.response.as_ref().and_then(|inner| inner.usage));
        reading.usage = usage.map(Usage::counts);
        reading.error = self.problem();
        reading
    }

    fn read_response(&self, reading: &mut Reading) {
        if self.is_delta() && !self.is_sound() {
            reading.text.push_str(&self.delta.0);
        }
        for output in self.output.iter().flatten() {
            for content in output.content.iter().flatten() {
                reading.text.push_str(&content.text.0);
            }
            reading.text.push_str(&output.arguments.0);
        }
        let ended = matches!(
            self.kind.0.as_ref(),
            "response.completed" | "response.done" | "response.failed" | "response.incomplete"
        );
        if ended {
            reading.done = true;
            let status = self.response.as_ref().map(|inner| inner.status.0.to_string());
            reading.finish = status.filter(|status| !status.is_empty());
        } else if self.object.0 == "response" && !self.status.0.is_empty() {
            reading.finish = Some(self.status.0.to_string());
        }
    }

    /// Deltas of the model's answer; what it hears of the user (`conversation.…`) is none of it.
    fn is_delta(&self) -> bool {
        self.kind.0.starts_with("response.") && self.kind.0.ends_with(".delta")
    }

    fn is_sound(&self) -> bool {
        matches!(self.kind.0.as_ref(), "response.audio.delta" | "response.output_audio.delta")
    }

    fn problem(&self) -> Option<String> {
        let inner = self.response.as_ref().and_then(|inner| inner.error.as_ref());
        if let Some(problem) = self.error.as_ref().or(inner) {
            return Some(problem.0.to_string());
        }
        let flat = self.object.0 == "error" || self.kind.0 == "error";
        flat.then(|| self.message.0.to_string())
    }
}

impl Choice<'_> {
    fn add_to(&self, reading: &mut Reading) {
        if let Some(delta) = &self.delta {
            let older = delta.reasoning.0.is_empty();
            let thought = if older { &delta.reasoning_content } else { &delta.reasoning };
            reading.text.push_str(&thought.0);
            reading.text.push_str(&delta.content.0);
            reading.text.push_str(&delta.refusal.0);
            for call in delta.tool_calls.iter().flatten() {
                if let Some(function) = &call.function {
                    reading.text.push_str(&function.arguments.0);
                }
            }
        }
        reading.text.push_str(&self.text.0);
        if let Some(reason) = &self.finish_reason
            && !reason.0.is_empty()
        {
            reading.finish.get_or_insert_with(|| reason.0.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Reading {
        read_event(&Event::sse(data))
    }

    #[test]
    fn chunks_say_text_finish_and_usage() {
        let reading = event(
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hé"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"Zk2"}"#,
        );
        assert_eq!((reading.text.as_str(), reading.tokens), ("Hé", 1));
        assert_eq!((reading.finish, reading.usage, reading.error), (None, None, None));
        let role =
            event(r#"{"choices":[{"delta":{"role":"assistant","content":"","refusal":null}}]}"#);
        assert_eq!(role.tokens, 0, "a role is no token");
        let last = event(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
        assert_eq!((last.finish.as_deref(), last.done), (Some("stop"), false));
        let usage = event(r#"{"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2}}"#);
        assert_eq!(usage.usage, Some((8, 2)));
        assert!(event("[DONE]").done);
    }

    #[test]
    fn reasoning_and_tool_arguments_are_text() {
        assert_eq!(event(r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#).text, "hm");
        let both = r#"{"choices":[{"delta":{"reasoning_content":"hm","reasoning":"hm"}}]}"#;
        assert_eq!(event(both).text, "hm");
        let call = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}}]}"#;
        assert_eq!((event(call).text.as_str(), event(call).tokens), ("{\"a", 1));
        assert_eq!(event(r#"{"choices":[{"text":"old","finish_reason":null}]}"#).text, "old");
    }

    #[test]
    fn errors_inside_a_good_status_are_seen() {
        let error = |data: &str| event(data).error;
        assert_eq!(error(r#"{"error":{"message":"no","type":"server_error"}}"#), Some("no".into()));
        assert_eq!(error(r#"{"error":"text"}"#), Some("text".into()));
        assert_eq!(error(r#"{"object":"error","message":"flat"}"#), Some("flat".into()));
        assert_eq!(error(r#"{"error":null,"choices":[]}"#), None);
    }

    #[test]
    fn whole_answers_count_by_usage_where_given() {
        let counted = read_message(
            br#"{"object":"chat.completion","choices":[{"message":{"role":"assistant","content":"12345678"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#,
        );
        assert_eq!((counted.tokens, counted.usage), (7, Some((5, 7))));
        assert_eq!(counted.finish.as_deref(), Some("stop"));
        let guessed = read_message(br#"{"choices":[{"message":{"content":"12345678"}}]}"#);
        assert_eq!((guessed.tokens, guessed.usage), (2, None));
        let embedded = read_message(
            br#"{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        );
        assert_eq!((embedded.tokens, embedded.usage), (0, Some((8, 0))));
    }

    #[test]
    fn the_responses_api_has_text_and_ends() {
        let delta =
            event(r#"{"type":"response.output_text.delta","delta":"hi","sequence_number":4}"#);
        assert_eq!((delta.text.as_str(), delta.tokens), ("hi", 1));
        let end = event(
            r#"{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":4}}}"#,
        );
        assert_eq!(
            (end.done, end.finish.as_deref(), end.usage),
            (true, Some("completed"), Some((3, 4)))
        );
        let broken = event(r#"{"type":"error","code":"server_error","message":"no"}"#);
        assert_eq!(broken.error.as_deref(), Some("no"));
    }

    #[test]
    fn the_realtime_api_has_sound_and_ends() {
        let said = |data: &str| read_event(&Event::socket("text", data));
        let text = said(r#"{"type":"response.output_text.delta","event_id":"e","delta":"hi"}"#);
        assert_eq!((text.text.as_str(), text.tokens), ("hi", 1));
        for kind in ["response.audio.delta", "response.output_audio.delta"] {
            let sound = said(&format!(r#"{{"type":"{kind}","delta":"AAAA"}}"#));
            assert_eq!((sound.text.as_str(), sound.tokens), ("", 1), "{kind}");
        }
        let heard = r#"{"type":"conversation.item.input_audio_transcription.delta","delta":"hey"}"#;
        assert_eq!(said(heard).tokens, 0);
        assert_eq!(said(r#"{"type":"session.created","session":{}}"#).tokens, 0);
        let end = said(
            r#"{"type":"response.done","response":{"status":"completed","usage":{"input_tokens":3,"output_tokens":4}}}"#,
        );
        assert_eq!(
            (end.done, end.finish.as_deref(), end.usage),
            (true, Some("completed"), Some((3, 4)))
        );
        let broken =
            said(r#"{"type":"error","error":{"type":"server_error","message":"no","param":null}}"#);
        assert_eq!(broken.error.as_deref(), Some("no"));
    }

    #[test]
    fn odd_values_hide_no_others() {
        let reading =
            event(r#"{"object":7,"choices":[{"delta":{"content":["x"],"refusal":"no"}}]}"#);
        assert_eq!(reading.text, "no");
    }
}
