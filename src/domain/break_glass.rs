//! Break-glass: access in an emergency. It waits for nobody; everything else is judged as always, and more is asked for.

use crate::api::workload_access::Urgency;
use crate::domain::admit::Ask;
use crate::domain::policy::Policy;
use crate::domain::violation::{Problem, Violation};
use crate::domain::window;

/// An emergency has a name: whoever reviews the grant afterwards begins there.
pub(super) fn without_ticket(urgency: Urgency, ticket: Option<&str>) -> Option<Violation> {
    let named = ticket.is_some_and(|ticket| !ticket.trim().is_empty());
    (urgency == Urgency::BreakGlass && !named).then(|| {
        let message = "must name the incident in `ticket` when `urgency` is BreakGlass";
        Violation::new("WA-TICKET", "spec.ticket", Problem::Required, message)
    })
}

impl Policy {
    /// What an emergency is held to beyond everything else.
    pub(super) fn emergency(&self, ask: &Ask<'_>, wrong: &mut Vec<Violation>) {
        if ask.urgency != Urgency::BreakGlass {
            return;
        }
        let Some(longest) = self.break_glass else {
            let message = "has no `breakGlass`; ask with `urgency: Normal`";
            let violation = self.violation("WA-NOT-ALLOWED", "spec.urgency", message);
            return wrong.push(violation.found("BreakGlass"));
        };
        if ask.whole > longest {
            let longest = window::show(longest);
            let message = format!("allows less than or equal to {longest} by break-glass");
            let violation = self.violation("WA-TOO-LONG", ask.length_path, message);
            wrong.push(violation.found(window::show(ask.whole)));
        }
    }
}
