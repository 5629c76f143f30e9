//! Faults of TLS handshakes need TLS with the app, and know nothing of requests.

use super::{Lowering, named, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::{Dependency, Plan};
use crate::engine::Rule;
use crate::exchange::Level;

impl Lowering<'_> {
    /// Finds handshake faults that can never act.
    pub(in crate::config) fn check_handshakes(&mut self, plan: &Plan) {
        let gateways = &plan.gateways;
        let any_has = gateways.forward.is_some() || gateways.transparent.is_some();
        for rule in &plan.rules {
            let of_handshakes = |level| rule.effects.iter().find(|(_, it)| it.acts_on(level));
            let Some((effect, _)) = of_handshakes(Level::Handshake) else { continue };
            if !any_has {
                self.check_tls(rule, effect, &plan.dependencies);
            }
            if of_handshakes(Level::Request).is_none() {
                self.check_choice(rule, effect);
            }
        }
    }

    fn check_tls(&mut self, rule: &Rule, effect: &str, dependencies: &[Dependency]) {
        let lacks = |one: &&Dependency| {
            one.tls.is_none() && self.node(way!["dependencies", &*one.name, "tls"]).is_none()
        };
        let targets = rule.targets.iter().filter_map(|target| named(dependencies, target));
        let plain: Vec<String> =
            targets.filter(lacks).map(|one| format!("`{}`", one.name)).collect();
        if plain.is_empty() {
            return;
        }
        let place = self.key_place(way!["faults", &*rule.name, effect]);
        let text = format!(
            "`{effect}` in fault `{}` is about TLS with the app, and {} {} none",
            rule.name,
            plain.join(" and "),
            if plain.len() == 1 { "has" } else { "have" }
        );
        let mistake = Mistake::at(place, text).hint(
            "write `tls: minted` beside the dependency's `listen`, or let the app come through a \
             forward gateway",
        );
        if plain.len() == rule.targets.len() {
            self.found.error(mistake);
        } else {
            self.found.warn(mistake);
        }
    }

    fn check_choice(&mut self, rule: &Rule, effect: &str) {
        let key = match (rule.selector.is_empty(), rule.sticky.is_some()) {
            (false, _) => "where",
            (true, true) => "sticky",
            (true, false) => return,
        };
        let place = self.place(way!["faults", &*rule.name, key]);
        let text = format!(
            "`{key}` of fault `{}` asks for something of a request, and `{effect}` acts on TLS \
             handshakes, which come before any",
            rule.name
        );
        self.found.error(Mistake::at(place, text).label("take it out; `percent` works"));
    }
}
