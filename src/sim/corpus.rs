//! The documents that a simulated vector store is born with: help articles of a made-up product,
//! the same for the same seed.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// A help article.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub title: String,
    pub text: String,
    pub topic: &'static str,
    pub section: &'static str,
    /// How often it was read.
    pub views: u64,
}

impl Document {
    /// What a vector store keeps beside the vector.
    pub fn payload(&self, number: usize) -> Map<String, Value> {
        let value = json!({
            "title": self.title,
            "text": self.text,
            "topic": self.topic,
            "section": self.section,
            "views": self.views,
            "url": format!("https://help.example.com/articles/{number}"),
        });
        value.as_object().cloned().unwrap_or_default()
    }
}

/// (topic, what a user does with it, where it is found, a fact)
const TOPICS: &[(&str, &str, &str, &str)] = &[
    (
        "password",
        "reset your password",
        "Account > Security",
        "A reset link is valid for 30 minutes",
    ),
    (
        "refund",
        "request a refund",
        "Billing > Orders",
        "A refund takes five working days to arrive",
    ),
    (
        "invoice",
        "download an invoice",
        "Billing > Invoices",
        "Invoices are issued on the first day of a month",
    ),
    (
        "two-factor authentication",
        "turn on two-factor authentication",
        "Account > Security",
        "Ten recovery codes are shown once and never again",
    ),
    (
        "api key",
        "create an API key",
        "Developers > Keys",
        "A key is shown once, and each workspace may hold 20 of them",
    ),
    (
        "webhook",
        "set up a webhook",
        "Developers > Webhooks",
        "A delivery is tried six times within one hour",
    ),
    (
        "export",
        "export your data",
        "Workspace > Data",
        "An export is ready within 15 minutes and kept for seven days",
    ),
    (
        "import",
        "import contacts from a file",
        "Workspace > Data",
        "A file may have 50,000 rows and 20 MB",
    ),
    (
        "single sign-on",
        "connect single sign-on",
        "Workspace > Identity",
        "SAML and OpenID Connect are both supported",
    ),
    (
        "notification",
        "change your notifications",
        "Account > Notifications",
        "A digest is sent at eight in the morning, local time",
    ),
    (
        "subscription",
        "cancel a subscription",
        "Billing > Plan",
        "A cancelled plan stays usable until the end of its period",
    ),
    (
        "plan",
        "upgrade your plan",
        "Billing > Plan",
        "An upgrade takes effect at once and is billed by the day",
    ),
    (
        "payment method",
        "change the payment method",
        "Billing > Payment",
        "A failed payment is tried again after three days",
    ),
    (
        "team member",
        "invite a team member",
        "Workspace > Members",
        "An invitation runs out after seven days",
    ),
    (
        "role",
        "change the role of a member",
        "Workspace > Members",
        "Only an owner can make another owner",
    ),
    (
        "mobile app",
        "sign in on the mobile app",
        "Mobile > Settings",
        "The app needs Android 11 or iOS 16 and later",
    ),
    (
        "offline mode",
        "work in offline mode",
        "Mobile > Settings",
        "Changes are kept on the device for 14 days",
    ),
    (
        "calendar",
        "connect a calendar",
        "Workspace > Integrations",
        "Events are synchronised every ten minutes",
    ),
    (
        "email address",
        "change your email address",
        "Account > Profile",
        "Both addresses get a message to confirm the change",
    ),
    (
        "account deletion",
        "delete your account",
        "Account > Privacy",
        "A deleted account can be restored for 30 days",
    ),
    (
        "shipping",
        "track a shipment",
        "Orders > Shipping",
        "A parcel within the country takes two to four days",
    ),
    (
        "return",
        "return a product",
        "Orders > Returns",
        "A product can be returned within 30 days with its box",
    ),
    (
        "warranty",
        "claim the warranty",
        "Orders > Warranty",
        "The warranty covers two years from the day of delivery",
    ),
    (
        "discount",
        "use a discount code",
        "Billing > Checkout",
        "One code can be used for each order",
    ),
    (
        "rate limit",
        "raise a rate limit",
        "Developers > Limits",
        "The limit is 120 requests a minute for each key",
    ),
    ("audit log", "read the audit log", "Workspace > Audit", "Entries are kept for 400 days"),
    (
        "backup",
        "restore a backup",
        "Workspace > Data",
        "A backup is made each night and kept for 35 days",
    ),
    (
        "custom domain",
        "use a custom domain",
        "Workspace > Branding",
        "A certificate is ordered within one hour",
    ),
    ("language", "change the language", "Account > Profile", "The product speaks eleven languages"),
    ("storage", "free some storage", "Workspace > Usage", "Each member has 50 GB of storage"),
];

/// (section, title, sentences)
const SECTIONS: &[(&str, &str, &[&str])] = &[
    (
        "how-to",
        "How to {do}",
        &[
            "To {do}, open {place} and follow the three steps on the page.",
            "You need the right to edit the workspace for this.",
            "The change is saved as soon as you confirm it.",
        ],
    ),
    (
        "troubleshooting",
        "When you cannot {do}",
        &[
            "If you cannot {do}, check first that {place} shows no warning.",
            "Most problems with the {topic} come from an old browser tab: reload the page and try again.",
            "If the problem stays, send us the request number from the error message.",
        ],
    ),
    (
        "limits",
        "Limits of the {topic}",
        &[
            "The {topic} has limits that depend on the plan.",
            "What is left of them is shown under {place}.",
            "A limit can be raised by support within one working day.",
        ],
    ),
    (
        "security",
        "Is it safe to {do}?",
        &[
            "Everything about the {topic} is encrypted on its way and at rest.",
            "Each change under {place} is written to the audit log with name and time.",
            "Support will never ask for a code or a password.",
        ],
    ),
    (
        "billing",
        "What it costs to {do}",
        &[
            "It costs nothing to {do} on any paid plan.",
            "On the free plan the {topic} is limited to one workspace.",
            "Taxes are added according to the billing address.",
        ],
    ),
    (
        "faq",
        "Questions about the {topic}",
        &[
            "People often ask how to {do}: the way is through {place}.",
            "Several people can work with the {topic} at the same time.",
            "It can be undone for a while, as described below.",
        ],
    ),
];

const AUDIENCES: &[(&str, &str)] = &[
    ("", ""),
    (" for teams", "This page is for teams of up to 50 people."),
    (" for administrators", "This page is for administrators, who see all members."),
    (" on the mobile app", "The buttons are in the menu at the bottom on the mobile app."),
    (
        " on the enterprise plan",
        "On the enterprise plan your manager of accounts can do it for you.",
    ),
    (" for developers", "The same can be done over the API with a key that may write."),
    (" for schools", "Schools get half of the price and the same functions."),
    (" in the European Union", "In the European Union the data stays in Frankfurt."),
    (" in Switzerland", "In Switzerland the data stays in Zurich."),
    (" in the United States", "In the United States the data stays in Ohio."),
    (" for resellers", "Resellers act for their customers after these have agreed."),
    (" for former customers", "Former customers can sign in for 90 days and read everything."),
];

const ASIDES: &[&str] = &[
    "It takes about a minute.",
    "You get a message when it is done.",
    "Nothing else changes for other members.",
    "Old links keep working.",
    "You can do this as often as you like.",
    "The page also shows who did it last.",
];

/// The first `number` documents of a seed. More than the articles that exist come as editions.
pub fn documents(number: usize, seed: u64) -> impl Iterator<Item = Document> {
    let dice = Dice::from_seed(seed).fork("documents");
    (0..number).map(move |index| document(index, &mut dice.fork_number(index as u64)))
}

fn document(index: usize, dice: &mut Dice) -> Document {
    let (topic, does, place, fact) = TOPICS[index % TOPICS.len()];
    let index = index / TOPICS.len();
    let (section, title, sentences) = SECTIONS[index % SECTIONS.len()];
    let index = index / SECTIONS.len();
    let (audience, note) = AUDIENCES[index % AUDIENCES.len()];
    let edition = index / AUDIENCES.len();

    let fill =
        |form: &str| form.replace("{do}", does).replace("{topic}", topic).replace("{place}", place);
    let mut title = with_audience(&fill(title), audience);
    if edition > 0 {
        title.push_str(&format!(" (edition {})", edition + 1));
    }
    let mut parts: Vec<String> = sentences.iter().map(|form| fill(form)).collect();
    parts.insert(1, format!("{fact}."));
    parts.push(ASIDES[dice.whole(0, ASIDES.len() as u64 - 1) as usize].to_owned());
    if !note.is_empty() {
        parts.push(note.to_owned());
    }
    Document { title, text: parts.join(" "), topic, section, views: dice.whole(10, 20_000) }
}

/// Puts the audience before a question mark: `Is it safe to pay for teams?`
fn with_audience(title: &str, audience: &str) -> String {
    match title.strip_suffix('?') {
        Some(asked) => format!("{asked}{audience}?"),
        None => format!("{title}{audience}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn documents_differ_and_repeat_with_their_seed() {
        let made: Vec<Document> = documents(3000, 4).collect();
        let titles: HashSet<&str> = made.iter().map(|document| document.title.as_str()).collect();
        assert_eq!(titles.len(), 3000);
        assert!(made.iter().all(|document| !document.text.contains('{')), "a form is filled");
        assert_eq!(documents(40, 4).collect::<Vec<_>>(), made[..40]);
        assert_ne!(documents(40, 5).collect::<Vec<_>>(), made[..40]);
    }
}
