//! Azure OpenAI: OpenAI's format behind Azure's paths, errors and headers.

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde_json::json;

use super::class::{Class, html_page, uuid, whole_seconds};
use super::openai::OpenAi;
use super::openai::failure::put_retry_after;
use super::{
    Answer, Called, Declines, Dialect, Failure, Finish, Outline, Quota, Reading, Reason, SoFar,
};
use crate::exchange::{Event, Facts, Operation};

/// The wire format of `kind: azure-openai`.
#[derive(Debug)]
pub(crate) struct AzureOpenAi;

impl Dialect for AzureOpenAi {
    fn name(&self) -> &'static str {
        "azure-openai"
    }

    fn facts(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        let mut facts = OpenAi.facts(method, uri, headers, body);
        if facts.model.is_none() && facts.operation != Operation::Other {
            facts.model = deployment(uri.path()).map(str::to_owned);
        }
        facts
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        OpenAi.read_event(operation, event)
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        OpenAi.read_message(operation, body)
    }

    fn outline(&self, operation: Operation, payload: &[u8]) -> Outline {
        OpenAi.outline(operation, payload)
    }

    fn reason(&self, operation: Operation, reason: Reason) -> Option<&'static str> {
        OpenAi.reason(operation, reason)
    }

    fn declines(&self, operation: Operation) -> Declines {
        OpenAi.declines(operation)
    }

    fn retells(&self, operation: Operation, payload: &[u8]) -> bool {
        OpenAi.retells(operation, payload)
    }

    fn call_events(
        &self,
        operation: Operation,
        like: &Event,
        call: &Called<'_>,
    ) -> Option<Vec<Event>> {
        OpenAi.call_events(operation, like, call)
    }

    fn with_call(&self, operation: Operation, body: &[u8], call: &Called<'_>) -> Option<Bytes> {
        OpenAi.with_call(operation, body, call)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        let class = Class::of(failure);
        let status = failure.status.unwrap_or_else(|| class.status());
        let mut headers = Vec::with_capacity(8);
        let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
        if class == Class::Html {
            put("server", "Microsoft-Azure-Application-Gateway/v2".into());
            put("content-type", "text/html".into());
            let page = html_page(status, "Microsoft-Azure-Application-Gateway/v2");
            put_retry_after(&mut headers, failure.retry_after);
            return Answer { status, headers, body: page.into() };
        }
        put("content-type", "application/json".into());
        put("apim-request-id", uuid(failure.id));
        put("x-request-id", uuid(failure.id.rotate_left(32)));
        put("x-ms-region", "West Europe".into());
        put("x-content-type-options", "nosniff".into());
        put("strict-transport-security", "max-age=31536000; includeSubDomains; preload".into());
        put_retry_after(&mut headers, failure.retry_after);
        Answer { status, headers, body: body(class, failure) }
    }

    fn quota_headers(&self, quota: &Quota) -> Vec<(&'static str, String)> {
        // Azure gives limits and what remains; its reset headers say nothing reliable.
        let mut headers = OpenAi.quota_headers(quota);
        headers.retain(|(name, _)| !name.contains("-reset-"));
        headers
    }

    fn finish_events(&self, operation: Operation, like: &Event, finish: &Finish<'_>) -> Vec<Event> {
        OpenAi.finish_events(operation, like, finish)
    }

    fn ending(&self, operation: Operation, so_far: &SoFar, reason: &str) -> Vec<Event> {
        OpenAi.ending(operation, so_far, reason)
    }

    fn failing(&self, failure: &Failure<'_>, so_far: &SoFar) -> Vec<Event> {
        OpenAi.failing(failure, so_far)
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        OpenAi.inband_error(message)
    }

    fn socket_error(&self, message: &str) -> Option<Event> {
        OpenAi.socket_error(message)
    }
}

/// The deployment that a path names: `/openai/deployments/{name}/…`.
fn deployment(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/deployments/")?;
    rest.split('/').next().filter(|name| !name.is_empty())
}

fn body(class: Class, failure: &Failure<'_>) -> Bytes {
    let (code, message) = match class {
        Class::Auth => (
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to \
             provide a valid key for an active subscription and use a correct regional API \
             endpoint for your resource."
                .to_owned(),
        ),
        Class::NotFound => (
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment \
             within the last 5 minutes, please wait a moment and try again."
                .to_owned(),
        ),
        Class::RateLimit | Class::SlowDown => ("429", rate_limit(failure)),
        Class::Quota => (
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details."
                .to_owned(),
        ),
        Class::Timeout => ("Timeout", "The operation was timeout.".to_owned()),
        Class::Overloaded | Class::Unavailable => (
            "503",
            "The service is temporarily unable to process your request. Please try again later."
                .to_owned(),
        ),
        Class::Html | Class::ServerError => (
            "InternalServerError",
            "The server had an error while processing your request. Sorry about that!".to_owned(),
        ),
        // These come from the model's own front, in OpenAI's words.
        Class::BadRequest | Class::ContextLength => {
            return OpenAi.failure(failure).body;
        }
    };
    let message = failure.message.map_or(message, str::to_owned);
    json!({ "error": { "code": code, "message": message } }).to_string().into()
}

fn rate_limit(failure: &Failure<'_>) -> String {
    let tokens = failure.quota.and_then(|quota| quota.tokens);
    let unit = match tokens {
        Some(gauge) if gauge.requested > gauge.remaining => "token",
        _ => "call",
    };
    let wait = failure.retry_after.map_or_else(String::new, |wait| {
        format!(" Please retry after {} seconds.", whole_seconds(wait))
    });
    format!(
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version \
         2024-10-21 have exceeded {unit} rate limit of your current OpenAI S0 pricing tier.{wait} \
         Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase \
         the default rate limit."
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dialect::{FAILURE_CLASSES, Gauge};

    #[test]
    fn the_deployment_stands_for_the_model() {
        let uri =
            Uri::from_static("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21");
        let body = br#"{"messages":[{"content":"hello"}],"stream":true}"#;
        let facts = AzureOpenAi.facts(&Method::POST, &uri, &HeaderMap::new(), body);
        assert_eq!((facts.operation, facts.stream), (Operation::Chat, true));
        assert_eq!(facts.model.as_deref(), Some("my-gpt"));
    }

    #[test]
    fn a_rate_limit_speaks_azure() {
        let gauge = Gauge { limit: 9, remaining: 0, requested: 5, reset: Duration::ZERO };
        let answer = AzureOpenAi.failure(&Failure {
            class: Some("rate_limit"),
            retry_after: Some(Duration::from_secs(33)),
            quota: Some(Quota { tokens: Some(gauge), ..Quota::default() }),
            ..Failure::default()
        });
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], "429");
        let text = body["error"]["message"].as_str().unwrap();
        assert!(text.contains("token rate limit") && text.contains("after 33 seconds"), "{text}");
        assert!(answer.headers.contains(&("retry-after".into(), "33".into())));
    }

    #[test]
    fn every_class_has_a_body() {
        for class in FAILURE_CLASSES {
            let answer = AzureOpenAi.failure(&Failure { class: Some(class), ..Failure::default() });
            assert!(!answer.body.is_empty() && answer.status.as_u16() >= 400, "{class}");
        }
    }
}
