//! Rooms whose platform decides about messages before anybody sees them, each promise a sentence.

use super::control;
use super::crowd;
use super::judging;
use super::sentences::{JUDGE, enter};
use super::*;
use crate::metrics::Figure;
use bytes::Bytes;
use uproar_proto::control::{BeforePublish, Content, Judgement, Question, Recall};
use uproar_proto::error::Code;
use uproar_proto::v1::{Class, Outcome};

/// Twelve viewers of a room that asks and waits half a second.
fn world(seed: u64, before_publish: BeforePublish) -> World {
    let rules = move |rules: &mut crate::config::Rooms| {
        rules.defaults.before_publish = before_publish;
        rules.defaults.user_rate_per_s = 100;
    };
    World::seed(seed).shards(3).rooms(rules).viewers(12)
}

fn text(text: &str) -> Content {
    Content::Text(Bytes::from(text.to_owned()))
}

fn say(world: &mut World, client: usize, said: &str) -> Vec<u8> {
    let id = crowd::publish(world, client, "room", Class::Chat, text(said));
    world.run_ms(5);
    id
}

/// What the platform was asked, by text.
fn asked(world: &mut World) -> Vec<(Question, String)> {
    let questions = std::mem::take(&mut world.questions);
    let text = |question: &Question| match &question.message.content {
        Some(v1::message::Content::Text(text)) => text.clone(),
        _ => String::new(),
    };
    questions.into_iter().map(|question| (question.clone(), text(&question))).collect()
}

fn received(world: &World) -> Vec<u64> {
    world.clients.iter().map(|client| client.streams["room"].received).collect()
}

#[test]
fn what_is_not_decided_yet_has_no_place_and_is_seen_by_nobody() {
    let mut world = world(51, BeforePublish::Closed);
    let ids: Vec<_> = (0..3).map(|n| say(&mut world, n, &format!("{n}"))).collect();
    world.run_ms(300);
    assert_eq!(received(&world), [0; 12]);
    assert!(ids.iter().all(|id| world.ledger.outcome(id).is_none()));
    let questions = asked(&mut world);
    assert_eq!(
        questions.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
        ["0", "1", "2"]
    );
    // The answers come the other way round.
    for (question, _) in questions.iter().skip(1).rev() {
        judging::answer(&mut world, question, Judgement::Allow);
    }
    world.run_ms(50);
    assert_eq!(received(&world), [0; 12], "what is first is not decided");
    judging::answer(&mut world, &questions[0].0, Judgement::Replace("*".into()));
    world.run_ms(1_000);
    assert_eq!(received(&world), [3; 12]);
    assert!(ids.iter().all(|id| world.ledger.outcome(id) == Some(Outcome::Accepted)));
    assert_eq!(world.figure(Figure::JudgeAllowed), 2);
    assert_eq!(world.figure(Figure::JudgeReplaced), 1);
}

#[test]
fn without_a_decision_a_room_does_as_it_has_declared() {
    for (setting, outcome, seen) in
        [(BeforePublish::Open, Outcome::Accepted, 1), (BeforePublish::Closed, Outcome::Refused, 0)]
    {
        let mut world = world(52, setting);
        let id = say(&mut world, 0, "x");
        world.run_ms(480);
        assert_eq!((world.ledger.outcome(&id), received(&world)), (None, vec![0; 12]));
        world.run_ms(30);
        assert_eq!(world.ledger.outcome(&id), Some(outcome), "{setting:?}");
        world.run_ms(1_000);
        assert_eq!(received(&world), [seen; 12]);
        // Whatever the platform says now.
        let (question, _) = asked(&mut world).remove(0);
        judging::answer(&mut world, &question, Judgement::Allow);
        world.run_ms(1_000);
        assert_eq!((received(&world), world.figure(Figure::JudgeLate)), (vec![seen; 12], 1));
    }
}

#[test]
fn where_there_is_no_way_to_the_platform_nobody_waits_for_it() {
    let mut world = world(53, BeforePublish::Open);
    world.plan.platform.unasked = 1_000;
    let id = say(&mut world, 0, "x");
    assert_eq!(world.ledger.outcome(&id), Some(Outcome::Accepted));
    assert_eq!(world.figure(Figure::JudgeUnasked), 1);
}

#[test]
fn moderators_backends_and_likes_are_nobodys_business() {
    let mut world = world(54, BeforePublish::Closed);
    let judge = enter(&mut world, 1, JUDGE, "room");
    let ids = [say(&mut world, judge, "calm down")];
    crowd::like(&mut world, 2, "room", 3);
    control::publish(
        &mut world,
        "room",
        vec![(Class::Chat, text("a")), (Class::System, text("b"))],
    );
    world.run_ms(1_000);
    assert!(ids.iter().all(|id| world.ledger.outcome(id) == Some(Outcome::Accepted)));
    assert_eq!((received(&world)[0], world.figure(Figure::JudgeAsked)), (3, 0));
}

#[test]
fn a_room_that_ends_refuses_what_waits_and_an_earlier_lifes_answer_means_nothing() {
    let mut world = world(55, BeforePublish::Open);
    let id = say(&mut world, 0, "x");
    control::close(&mut world, "room");
    world.run_ms(50);
    assert_eq!(world.ledger.outcome(&id), Some(Outcome::Refused));
    let again = enter(&mut world, 0, None, "room");
    let (question, _) = asked(&mut world).remove(0);
    let later = say(&mut world, again, "y");
    judging::answer(&mut world, &question, Judgement::Refuse(Code::Refused, String::new()));
    world.run_ms(50);
    assert_eq!(world.ledger.outcome(&later), None, "the number is the same, the life is not");
    world.run_ms(1_000);
    assert_eq!(world.ledger.outcome(&later), Some(Outcome::Accepted));
}

#[test]
fn who_is_silenced_meanwhile_is_not_heard_any_more() {
    let mut world = world(56, BeforePublish::Open);
    let ids: Vec<_> = (0..4).map(|n| say(&mut world, n, &format!("{n}"))).collect();
    let questions = asked(&mut world);
    let user = |client: usize| questions[client].0.message.user.clone();
    control::mute(&mut world, "room", &user(0), 60);
    control::kick(&mut world, "room", &user(1), 60);
    control::recall(&mut world, "room", Recall::User(user(2)));
    for (question, _) in &questions {
        judging::answer(&mut world, question, Judgement::Allow);
    }
    world.run_ms(1_000);
    let outcomes: Vec<_> = ids.iter().map(|id| world.ledger.outcome(id)).collect();
    let refused = Some(Outcome::Refused);
    assert_eq!((outcomes[0], outcomes[2]), (refused, refused));
    assert_ne!(outcomes[1], Some(Outcome::Accepted));
    assert_eq!(outcomes[3], Some(Outcome::Accepted));
    assert_eq!(world.clients[3].streams["room"].received, 1);
}
