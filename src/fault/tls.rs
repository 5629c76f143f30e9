//! Spoils the TLS handshake with the app: what it meets when a certificate ran out overnight, when
//! a load balancer shows another host's, or when a middlebox breaks in.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Arming, Effect, Ending, Fault, Flaw, Impossible, Invalid, Orders, Spec};
use crate::exchange::Level;

/// A TLS handshake that fails, or that shows a certificate that must not be taken. It acts on new
/// handshakes alone: connections that are kept open feel nothing. The dependency needs TLS with the
/// app (`tls` beside its `listen`, or a gateway that looks into TLS).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// How it fails: `refuse`, `stall`, `reset`, `close`, `expired`, `wrong_name` or `untrusted`.
    pub mode: Mode,
}

/// How a handshake fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The connection is closed (FIN) once the client has said what it wants.
    Close,
    /// A certificate whose time ended yesterday.
    Expired,
    /// The server breaks off with the fatal alert `handshake_failure`.
    Refuse,
    /// The connection is reset (RST) once the client has said what it wants.
    Reset,
    /// The server never answers; the connection stays open until the client gives up.
    Stall,
    /// A certificate from an authority that nobody trusts.
    Untrusted,
    /// A certificate of another host.
    WrongName,
}

impl Spec for Tls {
    const NAME: &'static str = "tls";
    const SUMMARY: &'static str =
        "a TLS handshake that fails: refused, stalled, reset, or with a bad certificate";
    const EXAMPLE: &'static str = "{ mode: expired }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        Ok(Box::new(Loaded { mode: self.mode }))
    }
}

#[derive(Debug)]
struct Loaded {
    mode: Mode,
}

impl Fault for Loaded {
    fn acts_on(&self, level: Level) -> bool {
        level == Level::Handshake
    }

    fn arm(&self, _: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        Ok(Box::new(match self.mode {
            Mode::Close => Spoilt::End(Ending::Close),
            Mode::Expired => Spoilt::Certificate(Flaw::Expired),
            Mode::Refuse => Spoilt::Certificate(Flaw::Missing),
            Mode::Reset => Spoilt::End(Ending::Reset),
            Mode::Stall => Spoilt::End(Ending::Hang),
            Mode::Untrusted => Spoilt::Certificate(Flaw::Untrusted),
            Mode::WrongName => Spoilt::Certificate(Flaw::WrongName),
        }))
    }
}

/// A handshake that is spoilt.
pub(super) enum Spoilt {
    Certificate(Flaw),
    End(Ending),
}

impl Effect for Spoilt {
    fn on_connect(&mut self, _: Duration, out: &mut Orders) {
        match self {
            Self::Certificate(flaw) => out.certificate(*flaw),
            Self::End(ending) => out.end(*ending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Upstream, arm, build, exchange, ms, play};
    use super::super::{Chain, Order};
    use super::*;

    #[test]
    fn each_mode_gives_its_order_and_counts_as_a_hit() {
        for (mode, order) in [
            ("close", Order::End(Ending::Close)),
            ("expired", Order::Certificate(Flaw::Expired)),
            ("refuse", Order::Certificate(Flaw::Missing)),
            ("reset", Order::End(Ending::Reset)),
            ("stall", Order::End(Ending::Hang)),
            ("untrusted", Order::Certificate(Flaw::Untrusted)),
            ("wrong_name", Order::Certificate(Flaw::WrongName)),
        ] {
            let fault = build::<Tls>(&format!("{{ mode: {mode} }}"));
            let mut chain = Chain::default();
            chain.push(0, arm(fault.as_ref(), ms(0), &exchange(1)).unwrap().0);
            assert!(!chain.fired().next().unwrap().hit, "{mode}");
            assert_eq!(chain.on_connect(0, ms(0)), [order], "{mode}");
            assert!(chain.fired().next().unwrap().hit, "{mode}");
        }
    }

    #[test]
    fn requests_are_none_of_its_business() {
        let fault = build::<Tls>("{ mode: refuse }");
        assert!(fault.acts_on(Level::Handshake));
        assert!(!fault.acts_on(Level::Request) && !fault.acts_on(Level::Connection));
        let played = play(&[fault.as_ref()], &exchange(1), &Upstream::message(3));
        assert!(!played.hit() && played.ended().is_none());
    }
}
