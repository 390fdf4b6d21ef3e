//! The owner of the gateway: one thread that waits, steps and carries out.
//!
//! It decides nothing about parking. What it does decide is order: an arrival never waits behind a
//! reading, and what a step wants written goes to the store before its answer and before signs.
//! An answer waits for its commit at whoever asked, only until its `by`: the store's mark wakes
//! them directly, which saves the way through this thread. Readings of lines that were
//! polled together come within some milliseconds; they are taken together, so that the thread is
//! woken, the store told and a picture made once for all of them. Everything else talks to it
//! through a [`Handle`] or reads the published [`Snapshot`]. Its loop turns at least once a second
//! and pings the watchdog itself: if this loop hangs, nobody is being guided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::warn;

use crate::config::GuidanceTable;
use crate::gateway::{
    Answer, Ask, Effect, Gateway, Input, Kept, LeaseId, LeaseTold, Reading, ReplyId, SignView,
    Snapshot, Teller, Ticket,
};
use crate::record::{Body, Lane};
use crate::site::{BayIx, ColourIx, Face, OutputIx, SignIx, UnitIx};
use crate::store::queue::Item;
use crate::time::{Clock, Mono};

/// Shortest time between two published snapshots.
const BEAT: Duration = Duration::from_millis(250);

/// Longest sleep of the loop: a picture is published then even if nothing happened, for its ages.
const IDLE: Duration = Duration::from_secs(1);

/// How long a reading may wait for others that come with it. Answers of lines that are polled
/// together arrive within this on a local network, and it is a two-hundredth of a usual period.
const GATHER: Duration = Duration::from_millis(5);

/// Questions that may wait: a burst of arrivals at all portals at once, some seconds' worth.
const URGENT_MAX: usize = 1_024;

/// Turns whose changes a slow follower may be behind before it is told to look at everything: at
/// 200 changes a second, over a second's worth.
const NEWS_MAX: usize = 256;

/// What changed in one turn of the loop, for those who follow it.
#[derive(Clone, PartialEq, Debug)]
pub struct News {
    pub at: Mono,
    /// Leases that were confirmed, moved or ended.
    pub leases: Vec<LeaseId>,
    /// Signs that show something else, or whose orders changed.
    pub signs: Vec<SignView>,
}

/// What the owner is sent besides readings.
#[derive(Debug)]
pub enum Urgent {
    Ask { ask: Ask, reply: oneshot::Sender<Given> },
    Notice(Body),
    Retune(GuidanceTable),
    Fallbacks(Vec<Face>),
    Restore(Kept),
    Stop,
}

/// An answer as the owner gives it: to be passed on once the store has reached `after`, and at
/// `by` in any case.
#[derive(Clone, PartialEq, Debug)]
pub struct Given {
    pub answer: Answer,
    pub after: Ticket,
    pub by: Mono,
}

/// An answer and whether what it rests on was durable when it was passed on.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    pub answer: Answer,
    pub durable: bool,
}

/// How the rest of the process talks to the owner; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    urgent: mpsc::Sender<Urgent>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    news: broadcast::Sender<Arc<News>>,
    /// How far the store is durable.
    durable: watch::Receiver<Ticket>,
    clock: Clock,
}

impl Handle {
    pub fn new(
        urgent: mpsc::Sender<Urgent>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        news: broadcast::Sender<Arc<News>>,
        durable: watch::Receiver<Ticket>,
        clock: Clock,
    ) -> Handle {
        Handle { urgent, snapshot, news, durable, clock }
    }

    /// Asks and waits, also for the commit; `None` once the owner has stopped.
    pub async fn ask(&self, ask: Ask) -> Option<Answered> {
        let (reply, given) = oneshot::channel();
        self.urgent.send(Urgent::Ask { ask, reply }).await.ok()?;
        let Given { answer, after, by } = given.await.ok()?;
        let mut mark = self.durable.clone();
        let durable = tokio::select! {
            biased;
            // A store that is gone will not get any further.
            reached = mark.wait_for(|mark| *mark >= after) => reached.is_ok(),
            // Nobody hands the store anything any more: whoever asked is told before the end.
            () = self.urgent.closed() => false,
            () = tokio::time::sleep(self.clock.wait(by)) => false,
        };
        Some(Answered { answer, durable })
    }

    /// Puts something on the alarm lane, from a thread that may not wait: false if the owner's
    /// queue is full or the owner has stopped.
    pub fn notice(&self, body: Body) -> bool {
        self.urgent.try_send(Urgent::Notice(body)).is_ok()
    }

    /// Values of a store that came back after the start; false as for [`Handle::notice`].
    pub fn restore(&self, kept: Kept) -> bool {
        self.urgent.try_send(Urgent::Restore(kept)).is_ok()
    }

    /// New weights and thresholds.
    pub async fn retune(&self, guidance: GuidanceTable) -> bool {
        self.urgent.send(Urgent::Retune(guidance)).await.is_ok()
    }

    /// New fallback faces, one for each sign in the site's order.
    pub async fn fallbacks(&self, faces: Vec<Face>) -> bool {
        self.urgent.send(Urgent::Fallbacks(faces)).await.is_ok()
    }

    /// Asks the owner to put signs to their fallback and stop.
    pub async fn stop(&self) -> bool {
        self.urgent.send(Urgent::Stop).await.is_ok()
    }

    /// The newest picture.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// To hear of each change from now on, in the turn in which it happens.
    pub fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
    }

    /// To be woken at each new picture.
    pub fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }
}

/// Where the owner's effects go. None of them may block.
pub struct Ports {
    pub write: Box<dyn FnMut(SignIx, Face) + Send>,
    pub retry: Box<dyn FnMut(UnitIx) + Send>,
    pub lamp: Box<dyn FnMut(BayIx, ColourIx) + Send>,
    pub output: Box<dyn FnMut(OutputIx, bool) + Send>,
    /// Items, the ticket of the last of them, and whether someone waits for it.
    pub commit: Box<dyn FnMut(Vec<Item>, Ticket, bool) + Send>,
    /// How far the store is durable.
    pub durable: watch::Receiver<Ticket>,
    /// Called at every turn of the loop.
    pub beat: Box<dyn FnMut() + Send>,
    /// Called with the time each step took.
    pub stepped: Box<dyn FnMut(Duration) + Send>,
}

/// The owner before it runs.
pub struct Owner {
    gateway: Gateway,
    teller: Teller,
    clock: Clock,
    ports: Ports,
    urgent: mpsc::Receiver<Urgent>,
    readings: mpsc::Receiver<Reading>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    news: broadcast::Sender<Arc<News>>,
    /// Leases and signs that changed in this turn.
    turned: BTreeSet<LeaseId>,
    shown: BTreeSet<SignIx>,
    effects: Vec<Effect>,
    /// The same in words.
    words: Vec<Effect>,
    replies: BTreeMap<ReplyId, oneshot::Sender<Given>>,
    next_reply: u64,
    /// Answers and orders to devices of the last steps: they go out behind the store's items.
    outward: Vec<Effect>,
    /// The first reading that waits for others, and until when.
    gathering: Option<(Instant, Reading)>,
    /// What the store is to be handed, and whether somebody waits for it.
    items: Vec<Item>,
    hurry: bool,
    published: Instant,
    /// Something happened since the last picture.
    changed: bool,
}

impl Owner {
    /// An owner and the handle to it.
    pub fn new(
        gateway: Gateway,
        clock: Clock,
        readings: mpsc::Receiver<Reading>,
        ports: Ports,
    ) -> (Owner, Handle) {
        let (sender, urgent) = mpsc::channel(URGENT_MAX);
        let (snapshot, follow) = watch::channel(Arc::new(Snapshot::default()));
        let news = broadcast::Sender::new(NEWS_MAX);
        let durable = ports.durable.clone();
        let handle = Handle::new(sender, follow, news.clone(), durable, clock);
        let owner = Owner {
            news,
            turned: BTreeSet::new(),
            shown: BTreeSet::new(),
            teller: gateway.teller(),
            gateway,
            clock,
            ports,
            urgent,
            readings,
            snapshot,
            effects: Vec::new(),
            words: Vec::new(),
            replies: BTreeMap::new(),
            next_reply: 0,
            outward: Vec::new(),
            gathering: None,
            items: Vec::new(),
            hurry: false,
            published: Instant::now(),
            changed: false,
        };
        (owner, handle)
    }

    /// Restores, then turns until told to stop or nobody is left to tell.
    pub async fn run(mut self, kept: Kept) {
        self.step(Input::Restore(kept));
        self.commit();
        self.publish();
        loop {
            (self.ports.beat)();
            if self.published.elapsed() >= if self.changed { BEAT } else { IDLE } {
                self.publish();
            }
            let wait = self.wait();
            tokio::select! {
                biased;
                urgent = self.urgent.recv() => match urgent {
                    None | Some(Urgent::Stop) => break,
                    Some(urgent) => self.urgent(urgent),
                },
                reading = self.readings.recv(), if self.gathering.is_none() => match reading {
                    None => break,
                    Some(reading) => self.gathering = Some((Instant::now() + GATHER, reading)),
                },
                () = tokio::time::sleep(wait) => self.woken(),
            }
            self.commit();
            self.tell_followers();
        }
        self.step(Input::Stopping);
        self.commit();
        self.tell_followers();
        self.publish();
    }

    fn urgent(&mut self, urgent: Urgent) {
        match urgent {
            Urgent::Ask { ask, reply } => {
                self.next_reply += 1;
                let id = ReplyId(self.next_reply);
                self.replies.insert(id, reply);
                if let Ask::SetMode { sign, .. }
                | Ask::ShowMessage { sign, .. }
                | Ask::ClearMessage { sign, .. } = &ask
                {
                    self.shown.insert(*sign);
                }
                self.step(Input::Asked { ask, reply: id });
            }
            Urgent::Notice(body) => self.step(Input::Notice(body)),
            Urgent::Retune(guidance) => self.step(Input::Retune(guidance)),
            Urgent::Fallbacks(faces) => self.step(Input::Fallbacks(faces)),
            Urgent::Restore(kept) => self.step(Input::Restore(kept)),
            Urgent::Stop => (),
        }
    }

    fn wait(&self) -> Duration {
        // Units that answered together fall due together: one turn for all of them.
        let due = self.gateway.due().map_or(IDLE, |due| self.clock.wait(due).max(GATHER));
        let beat = if self.changed { BEAT } else { IDLE };
        let beat = beat.saturating_sub(self.published.elapsed());
        let gathered = self
            .gathering
            .as_ref()
            .map_or(IDLE, |(until, _)| until.saturating_duration_since(Instant::now()));
        due.min(beat).min(gathered)
    }

    /// A time has come: that of the readings, or another.
    fn woken(&mut self) {
        match self.gathering.take() {
            Some((until, reading)) if until <= Instant::now() => self.readings(reading),
            early => {
                self.gathering = early;
                let due = self.gateway.due().is_some_and(|due| due <= self.clock.now().mono);
                let changed = self.changed || due;
                self.step(Input::Tick);
                self.changed = changed;
            }
        }
    }

    /// All readings that are there, as long as no arrival waits behind them.
    fn readings(&mut self, first: Reading) {
        self.step(Input::Reading(first));
        while let Ok(reading) = self.readings.try_recv() {
            if !self.urgent.is_empty() {
                self.gathering = Some((Instant::now(), reading));
                return;
            }
            self.step(Input::Reading(reading));
        }
    }

    fn step(&mut self, input: Input) {
        let started = Instant::now();
        let mut effects = std::mem::take(&mut self.effects);
        self.gateway.step(self.clock.now(), input, &mut effects);
        (self.ports.stepped)(started.elapsed());
        self.changed = true;
        for effect in &effects {
            match effect {
                Effect::Lease { told, lease, .. } if *told != LeaseTold::Granted => {
                    self.turned.insert(lease.id);
                }
                Effect::Write { sign, .. } => _ = self.shown.insert(*sign),
                _ => (),
            }
        }
        let mut words = std::mem::take(&mut self.words);
        effects.drain(..).for_each(|effect| self.teller.word(effect, &mut words));
        for effect in words.drain(..) {
            match effect {
                Effect::Record(record) => {
                    // What alarms the city must stand in the journal too: a fire, a lost unit.
                    if record.lane == Lane::Alarms {
                        warn!(alarm = ?record.body, "alarm");
                    }
                    self.items.push(Item::Record(record));
                }
                Effect::Keep { key, value } => self.items.push(Item::Keep { key, value }),
                outward => {
                    if let Effect::Answer { after, .. } = &outward {
                        self.hurry |= *after > *self.ports.durable.borrow();
                    }
                    self.outward.push(outward);
                }
            }
        }
        (self.effects, self.words) = (effects, words);
    }

    /// Hands the store what the last steps want written; then to everyone else what is theirs.
    /// In this order, because the disk is what an answer waits for longest.
    fn commit(&mut self) {
        let hurry = std::mem::take(&mut self.hurry);
        if !self.items.is_empty() || hurry {
            let items = std::mem::take(&mut self.items);
            (self.ports.commit)(items, self.gateway.issued(), hurry);
        }
        for effect in self.outward.drain(..) {
            match effect {
                Effect::Answer { reply, after, by, answer } => {
                    if let Some(reply) = self.replies.remove(&reply) {
                        // Whoever asked may have hung up meanwhile; the lease stands all the same.
                        let _ = reply.send(Given { answer, after, by });
                    }
                }
                Effect::Write { sign, face } => (self.ports.write)(sign, face),
                Effect::Retry { unit } => (self.ports.retry)(unit),
                Effect::Lamp { bay, colour } => (self.ports.lamp)(bay, colour),
                Effect::Output { output, on } => (self.ports.output)(output, on),
                Effect::Record(_) | Effect::Keep { .. } => unreachable!("these went to the store"),
                Effect::Lease { .. } | Effect::Bays { .. } | Effect::Unit { .. } => {
                    unreachable!("the teller has worded all facts")
                }
            }
        }
    }

    /// Tells those who follow what changed in this turn. Nobody is waited for.
    fn tell_followers(&mut self) {
        let (leases, signs) = (std::mem::take(&mut self.turned), std::mem::take(&mut self.shown));
        if self.news.receiver_count() == 0 || leases.is_empty() && signs.is_empty() {
            return;
        }
        let signs = signs.into_iter().map(|sign| self.gateway.sign_view(sign)).collect();
        let news = News { at: self.clock.now().mono, leases: leases.into_iter().collect(), signs };
        // An error says that the last follower has just left.
        let _ = self.news.send(Arc::new(news));
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        self.changed = false;
        self.snapshot.send_replace(Arc::new(self.gateway.snapshot()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Identity, Request, testing};
    use crate::site::{ClassIx, NodeIx, UnitIx};

    #[tokio::test]
    async fn an_answer_waits_for_its_commit() {
        let rig = Rig::start(5_000);
        rig.fill_free().await;
        let ask = tokio::spawn({
            let handle = rig.handle.clone();
            async move { handle.ask(arrive("r1")).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!ask.is_finished(), "answered before its commit");
        rig.durable.send_replace(Ticket(u64::MAX));
        let answered = ask.await.unwrap().unwrap();
        assert!(answered.durable);
    }

    #[tokio::test]
    async fn a_stalled_disk_delays_an_answer_only_so_long() {
        let rig = Rig::start(20);
        rig.fill_free().await;
        let answered = rig.handle.ask(arrive("r1")).await.unwrap();
        assert!(!answered.durable);
        let again = rig.handle.ask(arrive("r1")).await.unwrap();
        assert_eq!(lease(&again), lease(&answered));
    }

    #[tokio::test]
    async fn stopping_puts_signs_to_their_fallback_and_answers_who_waits() {
        let rig = Rig::start(60_000);
        rig.fill_free().await;
        let ask = tokio::spawn({
            let handle = rig.handle.clone();
            async move { handle.ask(arrive("r1")).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.handle.stop().await;
        assert!(ask.await.unwrap().is_some());
        rig.task.await.unwrap();
        let written = rig.written.lock().unwrap();
        assert_eq!(written[&SignIx(0)], Face::Blank);
        assert_eq!(written[&SignIx(2)], Face::Text("FOLLOW SIGNS".to_owned()));
    }

    struct Rig {
        handle: Handle,
        readings: mpsc::Sender<Reading>,
        durable: watch::Sender<Ticket>,
        written: Arc<std::sync::Mutex<BTreeMap<SignIx, Face>>>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Rig {
        fn start(commit_wait_ms: u32) -> Rig {
            let site = Arc::new(testing::site());
            let guidance =
                GuidanceTable { commit_wait_ms, debounce_ms: 0, ..GuidanceTable::default() };
            let identity = Identity { run: 1, boot: "b".to_owned(), version: "0".to_owned() };
            let gateway = Gateway::new(site, guidance, identity);
            let (readings, reading) = mpsc::channel(8);
            let (durable, mark) = watch::channel(Ticket(0));
            let written = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
            let faces = written.clone();
            let ports = Ports {
                write: Box::new(move |sign, face| {
                    faces.lock().unwrap().insert(sign, face);
                }),
                lamp: Box::new(|_, _| ()),
                output: Box::new(|_, _| ()),
                retry: Box::new(|_| ()),
                commit: Box::new(|_, _, _| ()),
                durable: mark,
                beat: Box::new(|| ()),
                stepped: Box::new(|_| ()),
            };
            let (owner, handle) = Owner::new(gateway, Clock::real(), reading, ports);
            let task = tokio::spawn(owner.run(Kept::default()));
            Rig { handle, readings, durable, written, task }
        }

        async fn fill_free(&self) {
            let at = Clock::real().now().mono;
            let reading = Reading {
                unit: UnitIx(0),
                at,
                occupied: vec![0],
                known: vec![u64::MAX],
                counters: vec![0, 0],
                contacts: 0,
                contacts_known: 0,
            };
            self.readings.send(reading).await.unwrap();
            let mut follow = self.handle.follow();
            while follow.borrow().garages.first().is_none_or(|garage| garage.tally.free == 0) {
                follow.changed().await.unwrap();
            }
        }
    }

    fn arrive(request_id: &str) -> Ask {
        Ask::Arrive(Request {
            request_id: request_id.into(),
            at: NodeIx(1),
            destination: None,
            class: ClassIx(0),
            eta_s: 0,
            tail: None,
            vehicle: None,
        })
    }

    fn lease(answered: &Answered) -> crate::gateway::LeaseId {
        match &answered.answer {
            Answer::Allocation(allocation) => allocation.lease.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
