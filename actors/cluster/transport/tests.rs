//! Both ends of a stream in one process, on two networks that are joined by their gateways.

use tickwright_core::cluster::Status;
use tickwright_core::domain::{NodeId, SourceId, Tick, TickBatch, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;
use crate::cluster::network::tests::{End, link_anew, pair};

const FROM: Unit = Unit::Source(0);
const TO: Unit = Unit::Exec;

/// One node's end of the stream.
struct Side {
    end: End,
    transport: Transport,
    demands: UnboundedReceiver<Demand<TickBatch>>,
    hellos: UnboundedReceiver<()>,
}

impl Side {
    fn new(end: End) -> (Self, Edge<TickBatch>) {
        let transport = Transport::new(end.network.clone());
        let (demand, demands) = Outlet::to_channel();
        let (hello, hellos) = Outlet::to_channel();
        let edge = Edge { from: FROM, to: TO, demand, hello };
        (Self { end, transport, demands, hellos }, edge)
    }

    fn host(&self, unit: Unit, epoch: u64) {
        self.transport.host(unit, epoch, |_| Err("only streams here".into()));
    }
}

/// Waits until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap();
}

/// What each node serves becomes known to the other.
fn tell_services(a: &Side, b: &Side) {
    let (a, b) = (&a.end.network, &b.end.network);
    a.on_member(&b.own().id, Status::Up, &b.services());
    b.on_member(&a.own().id, Status::Up, &a.services());
}

async fn soon<T>(receiver: &mut UnboundedReceiver<T>) -> T {
    timeout(Duration::from_secs(10), receiver.recv()).await.unwrap().unwrap()
}

fn key(sequence: u64) -> Key {
    Key { frontier: Timestamp::from_nanos(1_000 + sequence), source: SourceId(0), sequence }
}

fn rows(first: u64, last: u64) -> TickBatch {
    let mut batch = TickBatch::default();
    for sequence in first..=last {
        assert!(batch.push(key(sequence), Tick { price: 5, ..Tick::default() }));
    }
    batch
}

fn frame(first: u64, last: u64) -> Frame<TickBatch> {
    Frame { block: Arc::new(rows(first, last)), complete: key(last), more: true }
}

/// A subscribes from b to what a produces: its outlet, and where rows come out.
async fn subscribed(
    a: &mut Side,
    demand: &Outlet<Demand<TickBatch>>,
    session: u64,
) -> (UnboundedReceiver<Delivery<TickBatch>>, Sink<TickBatch>) {
    let (sink, frames) = Outlet::to_channel();
    let subscribe = Demand::Subscribe { session, after: key(2), credit: 10, sink };
    demand.send(subscribe).unwrap();
    loop {
        if let Demand::Subscribe { session: heard, after, credit, sink } =
            soon(&mut a.demands).await
            && heard == session
        {
            assert_eq!((after, credit), (key(2), 10));
            return (frames, sink);
        }
    }
}

#[tokio::test]
async fn a_stream_crosses_nodes_and_its_consumer_is_told_when_the_way_is_another() {
    let (a, b) = pair().await;
    let ((mut a, at_a), (mut b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    let hello = a.transport.produce(at_a);
    let demand = b.transport.consume(at_b);
    let (sink, _frames) = Outlet::to_channel();
    demand.send(Demand::Subscribe { session: 0, after: Key::START, credit: 1, sink }).unwrap();
    // Nobody knows yet where the producer is; when they do, it is as if it had started just now.
    tokio::task::yield_now().await;
    tell_services(&a, &b);
    soon(&mut b.hellos).await;
    let (mut frames, sink) = subscribed(&mut a, &demand, 7).await;
    sink.send((7, frame(3, 5))).unwrap();
    let (session, came) = soon(&mut frames).await;
    assert_eq!((session, came.complete, came.more), (7, key(5), true));
    assert_eq!(came.block.rows, rows(3, 5).rows);
    demand.send(Demand::Credit { session: 7, rows: 3 }).unwrap();
    assert!(matches!(soon(&mut a.demands).await, Demand::Credit { session: 7, rows: 3 }));
    demand.send(Demand::Stable(key(4))).unwrap();
    assert!(matches!(soon(&mut a.demands).await, Demand::Stable(k) if k == key(4)));

    hello.send(()).unwrap();
    soon(&mut b.hellos).await;

    link_anew(&mut a.end, &mut b.end);
    soon(&mut b.hellos).await;
    let (mut frames, sink) = subscribed(&mut a, &demand, 8).await;
    let again = soon(&mut a.demands).await;
    assert!(matches!(again, Demand::Stable(k) if k == key(4)), "it may have been lost: {again:?}");
    sink.send((8, frame(3, 9))).unwrap();
    assert_eq!(soon(&mut frames).await.0, 8);
}

/// Rows that were lost with a link are not skipped: what follows them may not come by the next one.
#[tokio::test]
async fn nothing_follows_what_was_lost_with_a_link() {
    let (a, b) = pair().await;
    let ((mut a, at_a), (mut b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    let _hello = a.transport.produce(at_a);
    let demand = b.transport.consume(at_b);
    tell_services(&a, &b);
    let (mut frames, sink) = subscribed(&mut a, &demand, 7).await;
    b.end.network.close_link(&b.end.link);
    a.end.network.close_link(&a.end.link);
    sink.send((7, frame(3, 5))).unwrap();
    link_anew(&mut a.end, &mut b.end);
    soon(&mut b.hellos).await;
    // The producer may not have noticed yet.
    let _ = sink.send((7, frame(6, 6)));
    let sent = a.end.network.counts().frames_sent;
    let (mut frames_8, sink_8) = subscribed(&mut a, &demand, 8).await;
    sink_8.send((8, frame(3, 9))).unwrap();
    assert_eq!(soon(&mut frames_8).await.1.complete, key(9));
    assert!(frames.try_recv().is_err());
    assert_eq!(a.end.network.counts().frames_sent, sent + 1, "of the new session alone");
}

/// What an actor had left to say must not end the session of its successor.
#[tokio::test]
async fn an_older_subscription_that_comes_late_is_not_heard() {
    let (a, b) = pair().await;
    let ((mut a, at_a), (b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    let _hello = a.transport.produce(at_a);
    let demand = b.transport.consume(at_b);
    tell_services(&a, &b);
    let (_frames, _sink) = subscribed(&mut a, &demand, 9).await;
    let (sink, _late) = Outlet::to_channel();
    demand.send(Demand::Subscribe { session: 5, after: Key::START, credit: 1, sink }).unwrap();
    demand.send(Demand::Credit { session: 9, rows: 4 }).unwrap();
    assert!(matches!(soon(&mut a.demands).await, Demand::Credit { session: 9, .. }));
}

/// As when all units begin anew at once: what each end says first is lost.
#[tokio::test]
async fn a_consumer_that_began_anew_as_well_hears_of_its_producer() {
    let (a, b) = pair().await;
    let ((a, at_a), (mut b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    tell_services(&a, &b);
    // The other node has not heard of it when the producer is there.
    b.host(TO, 2);
    let demand = b.transport.consume(at_b);
    let (sink, _frames) = Outlet::to_channel();
    demand.send(Demand::Subscribe { session: 1, after: Key::START, credit: 1, sink }).unwrap();
    until(|| a.end.network.counts().frames_received > 0).await;
    let hello = a.transport.produce(at_a);
    hello.send(()).unwrap();
    until(|| b.end.network.counts().stale_epochs > 0).await;
    while b.hellos.try_recv().is_ok() {}
    tell_services(&a, &b);
    soon(&mut b.hellos).await;
}

/// Consumers on this node have heard that epoch, though not by the network.
#[tokio::test]
async fn a_unit_that_was_here_is_not_taken_of_a_node_that_had_it_before() {
    let (a, b) = pair().await;
    let ((a, at_a), (b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    b.host(FROM, 2);
    b.transport.release(FROM);
    let _demand = b.transport.consume(at_b);
    let hello = a.transport.produce(at_a);
    tell_services(&a, &b);
    hello.send(()).unwrap();
    until(|| b.transport.stale() > 0).await;
}

/// While a unit is handed over both nodes run it, and the later life must keep its streams.
#[tokio::test]
async fn a_unit_whose_later_life_is_elsewhere_takes_no_stream_back() {
    let (a, b) = pair().await;
    let ((mut a, at_a), (b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    a.host(TO, 1);
    let (demand, hello) = (at_a.demand.clone(), at_a.hello.clone());
    let of_a = a.transport.consume(Edge { from: FROM, to: TO, demand, hello });
    let _hello = a.transport.produce(at_a);
    let (sink, _frames) = Outlet::to_channel();
    of_a.send(Demand::Subscribe { session: 3, after: Key::START, credit: 1, sink }).unwrap();
    assert!(matches!(soon(&mut a.demands).await, Demand::Subscribe { session: 3, .. }));
    b.host(TO, 2);
    let of_b = b.transport.consume(at_b);
    tell_services(&a, &b);
    let (_frames, _sink) = subscribed(&mut a, &of_b, 7).await;
    let (sink, _frames) = Outlet::to_channel();
    of_a.send(Demand::Subscribe { session: 4, after: Key::START, credit: 1, sink }).unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    of_b.send(Demand::Credit { session: 7, rows: 4 }).unwrap();
    assert!(matches!(soon(&mut a.demands).await, Demand::Credit { session: 7, .. }));
}

#[tokio::test]
async fn a_frame_that_is_not_the_next_ends_the_session() {
    let (a, b) = pair().await;
    let ((mut a, at_a), (mut b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    let _hello = a.transport.produce(at_a);
    let demand = b.transport.consume(at_b);
    tell_services(&a, &b);
    let (mut frames, sink) = subscribed(&mut a, &demand, 7).await;
    while b.hellos.try_recv().is_ok() {}
    let speech = Speech::Frame { session: 7, number: 1, complete: key(9), more: false };
    let body = encode_frame(&Head { from: FROM, to: TO, epoch: 1, speech }, &frame(6, 9));
    let message = Message { role: "exec", kind: KIND, epoch: 1, body: &body, is_urgent: false };
    let node: NodeId = b.end.network.own().id.clone();
    a.end.network.tell(Some(&node), message, Duration::from_secs(1)).await.unwrap();
    soon(&mut b.hellos).await;
    sink.send((7, frame(3, 5))).unwrap();
    let (mut again, sink) = subscribed(&mut a, &demand, 8).await;
    sink.send((8, frame(3, 5))).unwrap();
    soon(&mut again).await;
    assert!(frames.try_recv().is_err());
}

#[tokio::test]
async fn a_unit_that_moves_here_is_reached_without_the_network() {
    let (a, b) = pair().await;
    let ((a, _), (mut b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 1);
    b.host(TO, 1);
    let demand = b.transport.consume(at_b);
    let (sink, _frames) = Outlet::to_channel();
    demand.send(Demand::Subscribe { session: 0, after: Key::START, credit: 1, sink }).unwrap();
    // Nobody knows yet where the producer is; when they do, it is as if it had started just now.
    tokio::task::yield_now().await;
    tell_services(&a, &b);
    soon(&mut b.hellos).await;
    a.transport.release(FROM);
    b.host(FROM, 2);
    soon(&mut b.hellos).await;
    let (sink, mut frames) = Outlet::to_channel();
    demand.send(Demand::Subscribe { session: 1, after: Key::START, credit: 1, sink }).unwrap();
    let Demand::Subscribe { sink, .. } = soon(&mut b.demands).await else { panic!("not asked") };
    let sent = b.end.network.counts().frames_sent;
    sink.send((1, frame(1, 1))).unwrap();
    soon(&mut frames).await;
    assert_eq!(b.end.network.counts().frames_sent, sent);
}

#[tokio::test]
async fn an_older_life_of_a_unit_is_not_heard() {
    let (a, b) = pair().await;
    let ((mut a, at_a), (b, at_b)) = (Side::new(a), Side::new(b));
    a.host(FROM, 2);
    b.host(TO, 1);
    let _hello = a.transport.produce(at_a);
    let demand = b.transport.consume(at_b);
    tell_services(&a, &b);
    let (mut frames, sink) = subscribed(&mut a, &demand, 1).await;
    sink.send((1, frame(1, 1))).unwrap();
    soon(&mut frames).await;
    // As a node that slept would: it does not know of its successor.
    a.host(FROM, 1);
    sink.send((1, frame(2, 2))).unwrap();
    until(|| b.transport.stale() > 0).await;
    assert!(frames.try_recv().is_err());
    // And one for an older life of the consumer is refused as well.
    b.host(TO, 2);
    a.host(FROM, 2);
    sink.send((1, frame(3, 3))).unwrap();
    until(|| b.end.network.counts().stale_epochs > 0).await;
    assert!(frames.try_recv().is_err());
}

#[tokio::test]
async fn what_is_no_message_of_a_stream_is_counted_and_nothing_else() {
    let (a, b) = pair().await;
    let ((a, _), (b, at_b)) = (Side::new(a), Side::new(b));
    b.host(TO, 1);
    let _demand = b.transport.consume(at_b);
    let node: NodeId = b.end.network.own().id.clone();
    let head = |speech| Head { from: FROM, to: TO, epoch: 1, speech };
    let frame_head = head(Speech::Frame { session: 0, number: 0, complete: key(1), more: false });
    let torn = [encode(&frame_head), vec![9; 70]].concat();
    let bodies = [vec![], vec![255; 9], encode(&head(Speech::Hello))[..5].to_vec()];
    for body in &bodies {
        let message = Message { role: "exec", kind: KIND, epoch: 1, body, is_urgent: false };
        a.end.network.tell(Some(&node), message, Duration::from_secs(1)).await.unwrap();
    }
    until(|| b.end.network.counts().undecodable == bodies.len() as u64).await;
    assert!(decode_block::<TickBatch>(decode(&torn).unwrap().1).is_err());
}

mod bytes {
    use proptest::prelude::*;
    use tickwright_core::domain::{
        Definition, Instruments, OrderId, Side, Signal, StrategyId, Symbol, SymbolId,
    };
    use tickwright_core::stream::SignalBatch;

    use super::*;

    #[test]
    fn blocks_are_read_as_they_were_written() {
        let mut batch = rows(1, 300);
        let instrument = Instruments::default().resolve(&Symbol::new("IBM.US").unwrap());
        batch.definitions.push(Definition { id: SymbolId(3), instrument: Arc::new(instrument) });
        batch.origin_nanos = 77;
        let mut bytes = Vec::new();
        batch.write(&mut bytes);
        let read = TickBatch::read(&bytes).unwrap();
        assert_eq!((&read.rows, &read.definitions), (&batch.rows, &batch.definitions));
        assert_eq!((read.base_sequence, read.base_frontier), (1, batch.base_frontier));
        assert_eq!((read.source, read.origin_nanos), (batch.source, 77));

        let signal = Signal {
            id: OrderId { key: key(4), ordinal: 2 },
            strategy: StrategyId(1),
            symbol: SymbolId(3),
            side: Side::Sell,
            lots: 2,
            reduce_only: true,
            origin_nanos: 9,
        };
        let signals = SignalBatch { signals: vec![signal], known: 7 };
        let mut bytes = Vec::new();
        signals.write(&mut bytes);
        let read = SignalBatch::read(&bytes).unwrap();
        assert_eq!((read.signals, read.known), (signals.signals, 7));
    }

    #[test]
    fn a_row_of_no_known_kind_is_refused() {
        let mut batch = rows(1, 2);
        batch.rows[1].kind = 9;
        let mut bytes = Vec::new();
        batch.write(&mut bytes);
        assert!(TickBatch::read(&bytes).unwrap_err().contains("kind"));
    }

    #[test]
    fn rows_out_of_order_or_beyond_every_key_are_refused() {
        let read = |batch: &TickBatch| {
            let mut bytes = Vec::new();
            batch.write(&mut bytes);
            TickBatch::read(&bytes).unwrap_err()
        };
        let mut batch = rows(1, 3);
        batch.rows.swap(0, 2);
        assert!(read(&batch).contains("order"));
        let mut batch = rows(1, 3);
        batch.base_sequence = u64::MAX - 1;
        assert!(read(&batch).contains("beyond"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            let _ = TickBatch::read(&bytes);
            let _ = SignalBatch::read(&bytes);
        }
    }
}
