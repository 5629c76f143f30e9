//! Another plan in place of the one that is served, without refusing a connection: taken whole, or
//! refused whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::{Meanings, trust_for};
use super::{Error, World, site};
use crate::admin::Control;
use crate::config::plan::Plan;

impl World {
    /// Serves another plan from here on, and says what has changed. Exchanges under way keep the
    /// decisions that judged them; armed faults of the same name stay armed. An error leaves
    /// everything as it was. The seed and what is written where stay as they are.
    pub async fn reload(
        &mut self,
        mut plan: Plan,
        control: &Control,
    ) -> Result<Vec<String>, Error> {
        let (listeners, simulators) =
            site::listeners(&plan, self.ports, &self.clock, &self.simulators).await?;
        let gateways = site::gateways(&plan, self.ports);
        let trust = trust_for(&plan, None)?;
        let prepared = self
            .proxy
            .prepare(listeners, &gateways)
            .map_err(|error| Error::Listen(error.to_string()))?;
        // Nothing fails from here on.
        self.proxy.commit(prepared);
        let meanings = Meanings::of(&plan);
        let same = |name: &str| {
            let now = meanings.faults.get(name);
            now.is_some() && now == self.meanings.faults.get(name)
        };
        let disarmed = self.engine.replace(std::mem::take(&mut plan.rules), &same);
        self.engine.limit_affected(plan.safety.max_affected.unwrap_or(f64::INFINITY));
        self.engine.let_requests_steer(plan.safety.steer_by_header);
        self.simulators = simulators;
        self.endpoints = site::endpoints(&plan, &self.proxy);
        self.facts = site::facts(&plan, &self.endpoints, &self.proxy, trust.as_ref());
        self.trust = trust;
        self.dependencies.clone_from(&plan.dependencies);
        self.gateways = self.facts.gateways.clone();
        control.file.store(Arc::new(self.facts.clone()));
        let before = std::mem::replace(&mut self.meanings, meanings);
        let now = &self.meanings;
        let mut changes = differences("dependency", &before.dependencies, &now.dependencies);
        changes.extend(differences("gateway", &before.gateways, &now.gateways));
        changes.extend(differences("fault", &before.faults, &now.faults));
        for name in disarmed {
            changes.push(format!("fault `{name}` was armed, and is off now that it is gone"));
        }
        Ok(changes)
    }
}

/// What is new, gone, or not what it was.
fn differences(
    what: &str,
    before: &BTreeMap<Arc<str>, String>,
    after: &BTreeMap<Arc<str>, String>,
) -> Vec<String> {
    let mut told = Vec::new();
    for (name, meaning) in after {
        match before.get(name) {
            None => told.push(format!("{what} `{name}` is new")),
            Some(other) if other != meaning => told.push(format!("{what} `{name}` has changed")),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    told.extend(gone.map(|name| format!("{what} `{name}` is gone")));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_name() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<Arc<str>, String> {
            pairs.iter().map(|(name, what)| ((*name).into(), (*what).to_owned())).collect()
        };
        let told = differences(
            "fault",
            &map(&[("a", "1"), ("b", "1"), ("c", "1")]),
            &map(&[("a", "1"), ("b", "2"), ("d", "1")]),
        );
        let expected = ["fault `b` has changed", "fault `d` is new", "fault `c` is gone"];
        assert_eq!(told, expected);
    }
}
