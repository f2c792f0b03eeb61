//! More is offered than the room admits.
//!
//! Proves that the books balance for every class, that nothing of class `system` is lost, that
//! `gift` passes as long as it stays within its reserve, and that what is admitted arrives as if
//! there were no overload.

use crate::args::CLASSES;
use crate::check::{Check, reasons};
use crate::crowd::publish::LIKE;
use crate::plan::Plan;
use crate::report::Group;
use crate::report::figures::{classes, count};
use crate::session::Facts;
use crate::summary::Summary;
use uproar_proto::v1::Class;

/// Half of a room's rate is reserved for gifts: below this share of what was admitted they are
/// certainly within it.
const GIFT_SHARE: f64 = 0.4;

pub(super) fn figures(facts: &Facts, summary: &Summary) -> Option<Group> {
    let mut figures = classes(summary);
    figures.push(count(
        "likes_counted",
        "likes the room counted (whole run)",
        summary.likes_counted,
    ));
    figures.push(count("likes_offered", "likes offered (whole run)", summary.likes_offered));
    let codes: u64 = facts.outcome.books.codes.values().sum();
    figures.push(count("verdicts_with_code", "verdicts with a reason", codes));
    Some(Group { title: "Classes (measured)", figures })
}

pub(super) fn checks(plan: &Plan, summary: &Summary) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, book) in CLASSES.iter().zip(&summary.books) {
        let answered = book.accepted + book.merged + book.shed + book.refused + book.expired;
        let found = format!("{} offered, {answered} accounted for", book.offered);
        checks.push(Check::new(&format!("accounting_{name}"), answered == book.offered, found));
    }
    let system = &summary.books[Class::System as usize];
    if system.offered > 0 {
        checks.push(Check::none(
            "system_loss",
            system.shed + system.expired,
            "system messages shed or expired",
        ));
    }
    let gift = &summary.books[Class::Gift as usize];
    let within = gift.offered as f64 <= GIFT_SHARE * summary.admitted as f64;
    if gift.offered > 0 && within {
        let lost = gift.shed + gift.expired + gift.refused;
        checks.push(Check::none("gift_loss", lost, "gifts lost within their reserve"));
    }
    if plan.mix.0[LIKE] > 0.0 && summary.foreign == 0 {
        let found = format!(
            "{} offered, the counter grew by {}",
            summary.likes_offered, summary.likes_counted
        );
        checks.push(Check::new(
            "likes_exact",
            summary.likes_offered == summary.likes_counted,
            found,
        ));
    }
    let shed = summary.book.shed + summary.book.refused;
    let words =
        [("shed".to_owned(), summary.book.shed), ("refused".to_owned(), summary.book.refused)];
    let found = reasons(words.iter().map(|(what, n)| (what, n)));
    checks.push(Check::new(
        "overloaded",
        shed > 0,
        format!("{found}: a room that sheds nothing is not overloaded"),
    ));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::publish::Book;
    use crate::summary::tests::plan;

    fn failed(books: [Book; 4]) -> Vec<String> {
        let mut summary = Summary { books, admitted: 400, ..Summary::default() };
        for book in &books {
            summary.book.add(book);
        }
        let plan = plan("overload");
        checks(&plan, &summary).into_iter().filter(|c| !c.held).map(|c| c.name).collect()
    }

    fn book(offered: u64, accepted: u64, shed: u64) -> Book {
        Book { offered, accepted, shed, ..Book::default() }
    }

    #[test]
    fn losses_of_system_and_of_reserved_gifts_fail() {
        let none = Book::default();
        let chat = book(1000, 400, 600);
        assert_eq!(failed([chat, none, none, none]), Vec::<String>::new());
        assert_eq!(failed([chat, book(20, 19, 1), none, none]), ["system_loss"]);
        assert_eq!(failed([chat, none, book(100, 99, 1), none]), ["gift_loss"]);
        assert_eq!(
            failed([chat, none, book(300, 200, 100), none]),
            Vec::<String>::new(),
            "beyond the reserve"
        );
        assert_eq!(failed([book(1000, 400, 599), none, none, none]), ["accounting_chat"]);
        assert_eq!(failed([book(400, 400, 0), none, none, none]), ["overloaded"]);
    }
}
