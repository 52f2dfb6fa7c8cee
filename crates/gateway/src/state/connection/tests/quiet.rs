//! A burst that is larger than the window and not for a connection: that connection is passed over, whatever lay in its mailbox,
//! and is told of no gap.

use super::*;
use crate::state::routes::AccessChange;

const ANN: usize = 0;
const BOB: usize = 1;

/// A window of 8 entries, and a connection of ann's that has everything. Its mailbox has room for two.
fn listening() -> World {
    let mut world = World::new(Bounds { events: 8, ..Bounds::default() }, 2, 1 << 16);
    world.open(ANN, 0);
    told(&mut world);
    world
}

fn append(world: &mut World, to: &[usize]) {
    to.iter().for_each(|&one| world.append(&[one], false));
}

/// What the connection hands out: how many entries, and how many gaps.
fn told(world: &mut World) -> (usize, usize) {
    let (edge, connection) = (world.edge.clone(), &mut world.connections[0].connection);
    let mut out = Vec::new();
    while !matches!(connection.collect(edge.clock.now(), &mut out), Wait::Until(_)) {}
    (entries(&out), gaps(&out))
}

fn entries(out: &[Outgoing]) -> usize {
    out.iter().filter(|each| matches!(each, Outgoing::Entry { .. })).count()
}

fn gaps(out: &[Outgoing]) -> usize {
    out.iter().filter(|each| matches!(each, Outgoing::Control(Control::Gap(_)))).count()
}

#[tokio::test(start_paused = true)]
async fn an_overflown_mailbox_still_says_from_where_on_something_was_for_it() {
    let mut world = listening();
    append(&mut world, &[BOB, BOB, BOB, BOB, BOB, BOB, ANN, ANN, ANN]);
    world.dispatch();
    assert_eq!(told(&mut world), (3, 0));
    // What was for it and is lost is told.
    append(&mut world, &[ANN, ANN, ANN, BOB, BOB, BOB, BOB, BOB, BOB]);
    world.dispatch();
    assert_eq!(told(&mut world), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn of_an_ephemeral_event_that_is_lost_nobody_is_told() {
    let mut world = listening();
    world.append(&[ANN], true);
    append(&mut world, &[BOB; 10]);
    world.dispatch();
    assert_eq!(told(&mut world), (0, 0));
    append(&mut world, &[ANN]);
    append(&mut world, &[BOB; 10]);
    world.dispatch();
    assert_eq!(told(&mut world), (0, 1));
}

/// The fault: who came from a gateway that was further was told of a gap over what it had from there.
#[tokio::test(start_paused = true)]
async fn what_a_connection_has_from_another_gateway_is_missed_by_nobody() {
    // Of ann's events the first three, or four, are before what the window keeps of twelve; she has three. A mailbox of 1 overflows.
    let lost = [ANN, BOB, ANN, BOB, BOB, BOB, BOB, BOB, BOB, ANN, ANN, BOB];
    let one_more = [ANN, BOB, ANN, ANN, BOB, BOB, BOB, BOB, BOB, ANN, ANN, BOB];
    for mailbox_slots in [1, 16] {
        for (to, expected) in [(lost, (2, 0)), (one_more, (2, 1))] {
            let bounds = Bounds { events: 8, ..Bounds::default() };
            let mut world = World::new(bounds, mailbox_slots, 1 << 16);
            world.open_awaiting(ANN, 3);
            told(&mut world);
            append(&mut world, &to);
            world.dispatch();
            assert_eq!(told(&mut world), expected, "{to:?} in a mailbox of {mailbox_slots}");
        }
    }
}

/// The fault: how far everything was read had been asked before the turn was over, and the window left that behind meanwhile.
#[tokio::test(start_paused = true)]
async fn what_came_for_others_while_a_turn_was_sent_is_missed_by_nobody() {
    let mut world = World::new(Bounds { events: 8, ..Bounds::default() }, 2, 1);
    world.open(ANN, 0);
    told(&mut world);
    append(&mut world, &[ANN]);
    world.append(&[ANN], true);
    world.dispatch();
    let mut out = Vec::new();
    let wait = world.connections[0].connection.collect(world.edge.clock.now(), &mut out);
    assert_eq!((wait, entries(&out)), (Wait::None, 1), "the ephemeral one waits for the next turn");
    append(&mut world, &[BOB; 10]);
    world.dispatch();
    assert_eq!(told(&mut world), (0, 0));
}

/// The fault (seed 139): it stayed before what it had read for others, and was told a gap over that when it had to scan.
#[tokio::test(start_paused = true)]
async fn who_asks_anew_how_far_everything_was_read_has_read_that_far() {
    let mut world = World::new(Bounds { events: 8, ..Bounds::default() }, 4, 1);
    world.open(ANN, 0);
    told(&mut world);
    append(&mut world, &[ANN, BOB]);
    world.append(&[ANN], true);
    world.dispatch();
    let mut out = Vec::new();
    world.connections[0].connection.collect(world.edge.clock.now(), &mut out);
    assert_eq!(entries(&out), 1, "the ephemeral one waits for the next turn");
    world.append(&[BOB], true);
    append(&mut world, &[BOB; 8]);
    // Delivery was paused for a moment, so everybody scans.
    let paused = [AccessChange::PauseDelivery, AccessChange::ResumeDelivery].map(Change::Access);
    world.edge.apply_access(&paused);
    world.dispatch();
    assert_eq!(told(&mut world), (0, 0));
}

/// The fault (seed 139): an ephemeral event was the first in a mailbox that overflowed, and had left the window.
#[tokio::test(start_paused = true)]
async fn an_ephemeral_event_at_the_front_of_a_full_mailbox_loses_nobody_its_place() {
    let mut world = listening();
    append(&mut world, &[BOB]);
    world.append(&[ANN], true);
    append(&mut world, &[ANN, ANN, BOB, BOB, BOB, BOB, BOB, ANN]);
    world.dispatch();
    assert_eq!(told(&mut world), (3, 0));
}

/// The fault: a connection that reads its mailbox went through it one entry at a time, and one entry is no lag in number.
#[tokio::test(start_paused = true)]
async fn who_lags_in_its_mailbox_is_told_so_and_who_is_quiet_is_not() {
    // A quarter of the window are 10.
    for (to, behind) in
        [(vec![ANN; 20], true), (vec![ANN; 10], false), ([vec![ANN], vec![BOB; 20]].concat(), false)]
    {
        let mut world = World::new(Bounds { events: 40, ..Bounds::default() }, 64, 1 << 16);
        world.open(ANN, 0);
        told(&mut world);
        append(&mut world, &to);
        world.dispatch();
        let mut out = Vec::new();
        let connection = &mut world.connections[0].connection;
        while !matches!(connection.collect(world.edge.clock.now(), &mut out), Wait::Until(_)) {}
        let controls = out.iter().filter_map(|each| match each {
            Outgoing::Control(Control::FellBehind { events, .. }) => Some(format!("fell behind {events}")),
            Outgoing::Control(Control::CaughtUp { .. }) => Some("caught up".to_owned()),
            _ => None,
        });
        let expected: &[&str] = if behind { &["fell behind 20", "caught up"] } else { &[] };
        assert_eq!(controls.collect::<Vec<_>>(), expected, "{to:?}");
        assert_eq!(entries(&out), to.iter().filter(|one| **one == ANN).count());
    }
}
