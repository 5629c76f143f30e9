//! Faults: what can be done to an exchange, as pure decisions.
//!
//! A fault never sleeps, touches a socket or reads a clock: it gets a piece of an exchange and the
//! time since the run began, and gives back orders that the pump carries out. Three types for
//! three lifetimes: [`Spec`] (the YAML value), [`Fault`] (the loaded fault, shared by exchanges),
//! [`Effect`] (at work on one exchange).

mod answer;
mod breach;
mod chain;
mod changes;
mod choice;
mod close;
mod code;
mod draw;
mod lengths;
mod limiter;
mod machine;
mod order;
mod place;
mod pulse;
#[cfg(test)]
mod recorded;
mod spot;
#[cfg(test)]
mod testing;

use std::fmt::Debug;
use std::time::Duration;

use http::{request, response};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use self::chain::{Chain, Fired};
pub use self::changes::Changed;
pub use self::code::{GrpcStatus, StreamCode};
pub use self::draw::Draw;
pub use self::order::{Ending, Flaw, Order, Orders, Pulse};
pub use self::place::Place;
use crate::dialect::Dialect;
use crate::exchange::{Exchange, Grain, Item, Level};

/// The YAML side of a fault; its fields are the options that users write.
pub trait Spec: DeserializeOwned + JsonSchema + Debug + Clone + Send + Sync + 'static {
    /// The key in the experiment file, the name on the command line and in metrics.
    const NAME: &'static str;
    /// One line: the real failure that this mimics.
    const SUMMARY: &'static str;
    /// A value for this key, in YAML flow form, that parses and builds.
    const EXAMPLE: &'static str;

    /// Checks the options against each other and makes the fault.
    fn build(&self) -> Result<Box<dyn Fault>, Invalid>;
}

/// Options that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Invalid {
    /// The option at fault, for example `ending`; empty for the fault as a whole.
    pub field: &'static str,
    /// What is wrong and what to write instead.
    pub reason: String,
}

impl Invalid {
    /// An option that does not fit.
    fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A loaded fault, shared by all its exchanges (token buckets and queues live here).
pub trait Fault: Debug + Send + Sync {
    /// Whether the request's body must be read before deciding (tokens, model).
    fn needs_request_body(&self) -> bool {
        false
    }

    /// Gets ready to act on one exchange that the selector and the dice have chosen.
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible>;

    /// Whether connections as a whole are refused while this is armed for all requests.
    fn refuses_connections(&self) -> bool {
        false
    }

    /// Whether this acts on exchanges of this level. Most faults act on requests, and on raw
    /// connections as a whole.
    fn acts_on(&self, level: Level) -> bool {
        level != Level::Handshake
    }

    /// What this acts on where a connection carries a protocol that is read (PostgreSQL, Redis).
    fn within(&self, _dialect: &dyn Dialect) -> Within {
        Within::Requests
    }

    /// Forgets what an earlier arming left behind (called each time the fault is armed).
    fn reset(&self) {}
}

/// What a fault acts on where a raw connection carries requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Within {
    /// The connection as a whole: its start, its bytes, its end.
    Connection,
    Requests,
    /// The connection's start alone.
    Start,
    /// The connection's start, and requests on connections that are there.
    StartAndRequests,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both ways, each counted for itself.
    Both,
    /// From the dependency to the app.
    Down,
    /// From the app to the dependency.
    Up,
}

impl Direction {
    /// What is meant on this exchange; both where nothing is said. Over HTTP what the app sends
    /// passes without being shown: `why` says so.
    fn of(given: Option<Self>, arming: &Arming<'_>, why: &'static str) -> Result<Self, Impossible> {
        match given {
            Some(Self::Up) if arming.exchange.level != Level::Connection => Err(Impossible(why)),
            given => Ok(given.unwrap_or(Self::Both)),
        }
    }

    fn is_up(self) -> bool {
        self != Self::Down
    }

    fn is_down(self) -> bool {
        self != Self::Up
    }
}

/// Why what needs requests cannot act on a raw connection as a whole.
const NO_REQUESTS: Impossible = Impossible(
    "the connection's bytes have no requests that can be read (raw TCP, or TLS that passes)",
);

/// What a fault may look at when it is armed for an exchange.
#[derive(Debug)]
pub struct Arming<'a> {
    /// Time since the run began.
    pub at: Duration,
    /// When the run began, since 1970.
    pub epoch: Duration,
    /// The request, and who asks.
    pub exchange: &'a Exchange,
    /// What the bytes of its dependency mean.
    pub dialect: &'static dyn Dialect,
    /// Seeded draws of this fault on this exchange; what it draws is written to the journal.
    pub draw: &'a mut Draw,
}

impl Arming<'_> {
    /// Whether this acts before an answer begins: a socket that is open already is past that.
    fn before_answer(&self) -> Result<(), Impossible> {
        match self.exchange.level {
            Level::Socket => {
                Err(Impossible("the socket was open already: this acts on handshakes"))
            }
            _ => Ok(()),
        }
    }
}

/// Why a fault cannot act on an exchange, in words for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible(pub &'static str);

/// A fault at work on one exchange. Hooks pass everything by default. It is dropped when its
/// exchange ends for whatever reason, a client that went away included.
pub trait Effect: Send {
    /// How finely this effect must see the answer's body.
    fn grain(&self) -> Grain {
        Grain::Head
    }

    /// A raw connection has come, or a TLS handshake is about to begin; the upstream has not been
    /// connected. `again` asks for another call after a wait.
    fn on_connect(&mut self, _at: Duration, _out: &mut Orders) {}

    /// A piece that the app sends on a raw connection or a WebSocket. What is not sent on is
    /// dropped. (The body of an HTTP request passes without being shown.)
    fn on_upload(&mut self, _at: Duration, item: Item, out: &mut Orders) {
        out.send(item);
    }

    /// The next piece that is shown came at this time; it may have waited behind others since. Told
    /// of the messages of a socket alone, which are read on while a fault holds them.
    fn on_arrival(&mut self, _at: Duration) {}

    /// The request is about to be sent upstream. `again` asks for another call after a wait.
    fn on_request(&mut self, _at: Duration, _head: &mut request::Parts, _out: &mut Orders) {}

    /// The upstream's head has come, `took` after the request was sent to it.
    fn on_response(
        &mut self,
        _at: Duration,
        _took: Duration,
        _head: &mut response::Parts,
        _out: &mut Orders,
    ) {
    }

    /// A piece of the answer's body. What is not sent on is dropped.
    fn on_item(&mut self, _at: Duration, item: Item, out: &mut Orders) {
        out.send(item);
    }

    /// When this is to be told of the time, although nothing has come; None when it has nothing to
    /// do by then.
    fn due(&self) -> Option<Duration> {
        None
    }

    /// The time of `due` has come.
    fn on_due(&mut self, _at: Duration, _out: &mut Orders) {}

    /// An effect before this one ends the answer, or lets nothing but keep-alives follow: the last
    /// moment to send what is held.
    fn on_stop(&mut self, _at: Duration, _out: &mut Orders) {}

    /// The app sends no more on a raw connection.
    fn on_upload_end(&mut self, _at: Duration, _out: &mut Orders) {}

    /// The upstream's body has ended in good order.
    fn on_end(&mut self, _at: Duration, _out: &mut Orders) {}
}

/// Lists the kinds of fault: `module::Spec` each. From this one list come the YAML keys, the
/// schema, `brownout faults` and the tests that hold every kind to its example.
macro_rules! catalogue {
    ($($module:ident :: $spec:ident),* $(,)?) => {
        $(mod $module; pub use self::$module::$spec;)*

        /// The effect keys of a fault in the experiment file; several may stand together.
        #[derive(Clone, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct EffectSpecs {
            $(
                #[serde(default)]
                pub $module: Option<$spec>,
            )*
        }

        /// The module and the name of each kind.
        #[cfg(test)]
        const MODULES: &[(&str, &str)] = &[$((stringify!($module), $spec::NAME)),*];

        /// One kind of fault, as documentation and tests see it.
        pub const KINDS: &[Kind] = &[$(Kind {
            name: $spec::NAME,
            summary: $spec::SUMMARY,
            example: $spec::EXAMPLE,
            schema: || schemars::schema_for!($spec),
            try_build: |json| {
                let spec: $spec = serde_json::from_value(json).map_err(|error| Invalid {
                    field: "",
                    reason: error.to_string(),
                })?;
                spec.build()
            },
        }),*];

        impl EffectSpecs {
            /// The effects that are set, built, in catalogue order.
            pub fn build(&self) -> Vec<(&'static str, Result<Box<dyn Fault>, Invalid>)> {
                let mut built = Vec::new();
                $(if let Some(spec) = &self.$module {
                    built.push(($spec::NAME, spec.build()));
                })*
                built
            }

            /// The keys, in catalogue order.
            pub const NAMES: &'static [&'static str] = &[$($spec::NAME),*];

            /// Reads the value of an effect key; false, with nothing read, when there is no such
            /// effect.
            pub fn read_key<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                match key {
                    $($spec::NAME => {
                        if self.$module.is_some() {
                            return Err(serde::de::Error::duplicate_field($spec::NAME));
                        }
                        self.$module = map.next_value()?;
                    })*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// This one's keys over those of `base`.
            pub fn over(self, base: Self) -> Self {
                Self { $($module: self.$module.or(base.$module)),* }
            }
        }
    };
}

/// One kind of fault, as documentation and tests see it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The key in the experiment file.
    pub name: &'static str,
    /// One line: the real failure that it mimics.
    pub summary: &'static str,
    /// A value for the key, in YAML flow form.
    pub example: &'static str,
    /// The options, with their descriptions.
    pub schema: fn() -> schemars::Schema,
    /// Reads options and makes the fault.
    pub try_build: fn(serde_json::Value) -> Result<Box<dyn Fault>, Invalid>,
}

// Effects act in this order: first what happens on the way there, then what befalls the answer.
catalogue! {
    tls::Tls,
    latency::Latency,
    outage::Outage,
    rate_limit::RateLimit,
    saturation::Saturation,
    retrieval::Retrieval,
    embedding::Embedding,
    degrade::Degrade,
    structured::Structured,
    tool_calls::ToolCalls,
    slow_stream::SlowStream,
    keep_alive::KeepAliveOnly,
    stall::Stall,
    drop::DropEvents,
    duplicate::Duplicate,
    reorder::Reorder,
    strip::Strip,
    corrupt::Corrupt,
    error::Error,
    truncate::Truncate,
    burst::Burst,
    regroup::Regroup,
    bandwidth::Bandwidth,
    slice::Slice,
    slow_close::SlowClose,
}

#[cfg(test)]
mod pieces_tests;
#[cfg(test)]
mod tests;
