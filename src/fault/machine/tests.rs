use super::super::testing::ms;
use super::*;

fn machine(slots: usize, queue_limit: usize) -> Machine {
    let capacity = Capacity {
        slots,
        prefill: Some(1000.0),
        decode: Some(100.0),
        queue_limit,
        cold_start: None,
        cache: None,
        autoscale: None,
    };
    Machine::new(capacity, None)
}

fn prompt(tokens: u32) -> Prompt {
    Prompt { tokens, ..Prompt::default() }
}

/// The seat of one that has a slot, and when its prompt is read.
fn seated(turn: Turn) -> (Seat, Duration) {
    match turn {
        Turn::Slot { seat, prefilled } => (seat, prefilled),
        other => panic!("{other:?}"),
    }
}

fn number(turn: Turn) -> Number {
    match turn {
        Turn::Later(number, wait) => {
            assert!(wait >= ms(1), "a busy spin");
            number
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn first_come_first_served_and_a_full_line_refuses() {
    let mut machine = machine(1, 2);
    let (seat, prefilled) = seated(machine.enter(ms(0), &prompt(100)));
    assert_eq!(prefilled, ms(100));
    let first = number(machine.enter(ms(1), &prompt(100)));
    let second = number(machine.enter(ms(2), &prompt(100)));
    assert_eq!(machine.enter(ms(3), &prompt(100)), Turn::Full);
    machine.release(Some(ms(200)), seat);
    number(machine.ask(ms(201), second, &prompt(100)));
    let (seat, prefilled) = seated(machine.ask(ms(202), first, &prompt(100)));
    assert_eq!(prefilled, ms(302));
    machine.leave(second);
    machine.release(None, seat);
    let (_, prefilled) = seated(machine.enter(ms(400), &prompt(100)));
    assert_eq!(prefilled, ms(500), "the line is empty");
}

#[test]
fn prompts_are_read_one_after_another_and_decoding_is_shared() {
    let mut machine = machine(4, 0);
    let (seat, prefilled) = seated(machine.enter(ms(0), &prompt(500)));
    assert_eq!((prefilled, machine.decode(ms(0), seat, 10)), (ms(500), ms(100)));
    let (_, prefilled) = seated(machine.enter(ms(100), &prompt(500)));
    assert_eq!(prefilled, ms(1000));
    assert_eq!(machine.decode(ms(100), seat, 10), ms(200), "two share the speed");
}

#[test]
fn a_full_cache_sends_the_latest_away() {
    let mut machine = machine(4, 9);
    machine.capacity.cache = Some(1000);
    let (first, _) = seated(machine.enter(ms(0), &prompt(400)));
    let (second, _) = seated(machine.enter(ms(0), &prompt(400)));
    let waits = number(machine.enter(ms(0), &prompt(300)));
    assert!(!machine.is_preempted(second), "its prompt does not fit, so it waits");
    machine.decode(ms(1000), first, 200);
    assert!(!machine.is_preempted(second), "1000 fit");
    machine.decode(ms(1000), first, 1);
    assert!(machine.is_preempted(second) && !machine.is_preempted(first));
    assert_eq!(machine.resume(ms(1001), second), None);
    number(machine.ask(ms(1001), waits, &prompt(300)));
    machine.decode(ms(1100), first, 5000);
    assert!(!machine.is_preempted(first), "one alone is worked on");
    machine.release(Some(ms(2000)), first);
    number(machine.ask(ms(2000), waits, &prompt(300)));
    assert_eq!(machine.resume(ms(2000), second), Some(ms(2400)), "its 400 tokens are read again");
    let (_, prefilled) = seated(machine.ask(ms(2000), waits, &prompt(300)));
    assert_eq!(prefilled, ms(2700));
}

#[test]
fn a_replica_comes_late_and_goes_when_it_is_spare() {
    let mut machine = machine(1, 9);
    let (after, start, idle) = (ms(10_000), ms(30_000), ms(60_000));
    machine.capacity.autoscale = Some(Autoscale { most: 2, after, start, idle });
    let (first, _) = seated(machine.enter(ms(0), &prompt(0)));
    let second = number(machine.enter(ms(1000), &prompt(0)));
    let third = number(machine.enter(ms(2000), &prompt(0)));
    number(machine.ask(ms(40_999), second, &prompt(0)));
    let (second, _) = seated(machine.ask(ms(41_000), second, &prompt(0)));
    number(machine.ask(ms(200_000), third, &prompt(0)));
    machine.release(Some(ms(200_000)), first);
    let (third, _) = seated(machine.ask(ms(200_000), third, &prompt(0)));
    machine.release(Some(ms(201_000)), second);
    let (fourth, _) = seated(machine.enter(ms(260_999), &prompt(0)));
    machine.release(Some(ms(261_000)), fourth);
    machine.release(Some(ms(270_000)), third);
    let (_, _) = seated(machine.enter(ms(322_000), &prompt(0)));
    number(machine.enter(ms(322_000), &prompt(0)));
}

#[test]
fn an_idle_machine_starts_cold() {
    let mut machine = machine(2, 9);
    machine.capacity.cold_start = Some(ColdStart { after_idle: ms(30_000), duration: ms(12_000) });
    let (seat, _) = seated(machine.enter(ms(60_000), &prompt(0)));
    machine.release(Some(ms(61_000)), seat);
    let (seat, _) = seated(machine.enter(ms(90_000), &prompt(0)));
    machine.release(Some(ms(91_000)), seat);
    let first = number(machine.enter(ms(121_000), &prompt(0)));
    let second = number(machine.enter(ms(122_000), &prompt(0)));
    number(machine.ask(ms(132_999), first, &prompt(0)));
    assert!(matches!(machine.ask(ms(133_000), first, &prompt(0)), Turn::Slot { .. }));
    assert!(matches!(machine.ask(ms(133_000), second, &prompt(0)), Turn::Slot { .. }));
}
