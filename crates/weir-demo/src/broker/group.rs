//! One consumer group, classic protocol: a state machine without clock, task or socket.
//!
//! `Empty -> PreparingRebalance -> CompletingRebalance -> Stable`, and back to preparing whenever
//! somebody joins, leaves or dies. Answers that must wait (join, sync) go through a channel kept with
//! the member. Source: Apache Kafka `GroupMetadataManager`, KIP-394 (member ids), KIP-345 (static members).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;

/// Members of one group; Apache Kafka's `group.max.size` is unlimited, a demo's is not.
const MEMBERS_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// Id, instance id and metadata of all members; for the leader only.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

/// On failure the member id goes back as well: a new member is told its id this way.
pub type JoinReply = Result<Joined, (ResponseError, String)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}
pub type SyncReply = Result<Synced, ResponseError>;

#[derive(Clone, Debug)]
pub struct Join {
    /// Empty for a new member.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// Name and metadata, preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member is sent back once with its id (version 4 and later).
    pub requires_known_id: bool,
    /// Id to give to a new member; unique.
    pub fresh_id: String,
}

/// What a member says who it is.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub generation: i32,
}

#[derive(Debug)]
pub struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    /// Dead when nothing was heard of it until then, unless it waits for an answer.
    deadline: Instant,
    join: Option<oneshot::Sender<JoinReply>>,
    sync: Option<oneshot::Sender<SyncReply>>,
}

impl Member {
    fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    /// Waits for members to join until `deadline`; a first rebalance waits that long in any case.
    Preparing {
        deadline: Instant,
        initial: bool,
    },
    /// Waits for the leader's assignment.
    Completing {
        deadline: Instant,
    },
    Stable,
}

impl State {
    /// As ListGroups and DescribeGroups name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing { .. } => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug)]
pub struct Group {
    state: State,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Ids given out that have not joined yet, and when they lapse.
    pending: BTreeMap<String, Instant>,
    initial_delay: Duration,
    pub offsets: BTreeMap<(String, i32), Committed>,
}

impl Group {
    pub fn new(initial_delay: Duration) -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            initial_delay,
            offsets: BTreeMap::new(),
        }
    }
    pub fn state(&self) -> State {
        self.state
    }
    pub fn protocol_type(&self) -> &str {
        &self.protocol_type
    }
    pub fn protocol(&self) -> &str {
        &self.protocol
    }
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }
    /// Nothing is lost when this group is forgotten.
    pub fn is_void(&self) -> bool {
        self.state == State::Empty && self.offsets.is_empty() && self.pending.is_empty()
    }

    pub fn join(&mut self, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        if let Err(error) = self.check_join(&join) {
            return answer(reply, Err((error, join.member_id)));
        }
        if join.member_id.is_empty() {
            return self.join_new(join, now, reply);
        }
        if self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            return self.add(id, join, now, reply);
        }
        let caller = Caller {
            member_id: &join.member_id,
            instance_id: join.instance_id.as_deref(),
            generation: self.generation,
        };
        if let Err(error) = self.known(&caller) {
            return answer(reply, Err((error, join.member_id)));
        }
        self.rejoin(join, now, reply);
    }

    fn check_join(&self, join: &Join) -> Result<(), ResponseError> {
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let others = || self.members.iter().filter(|(id, _)| **id != join.member_id).map(|(_, m)| m);
        if others().next().is_none() {
            return Ok(());
        }
        let common = |name: &str| others().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        if self.protocol_type == join.protocol_type && join.protocols.iter().any(|(name, _)| common(name)) {
            Ok(())
        } else {
            Err(ResponseError::InconsistentGroupProtocol)
        }
    }

    fn join_new(&mut self, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        let id = join.fresh_id.clone();
        if let Some(instance) = &join.instance_id {
            let old = self.members.iter().find(|(_, m)| m.instance_id.as_ref() == Some(instance));
            if let Some(old) = old.map(|(id, _)| id.clone()) {
                self.take_over(&old, &id);
                let join = Join { member_id: id, ..join };
                return self.rejoin(join, now, reply);
            }
        } else if join.requires_known_id {
            if self.pending.len() + self.members.len() >= MEMBERS_MAX {
                return answer(reply, Err((ResponseError::GroupMaxSizeReached, String::new())));
            }
            self.pending.insert(id.clone(), now + join.session_timeout);
            return answer(reply, Err((ResponseError::MemberIdRequired, id)));
        }
        self.add(id, join, now, reply);
    }

    /// A static member came back under a new id: the old id is fenced off.
    fn take_over(&mut self, old: &str, new: &str) {
        let Some(mut member) = self.members.remove(old) else { return };
        if let Some(join) = member.join.take() {
            answer(join, Err((ResponseError::FencedInstanceId, old.to_owned())));
        }
        if let Some(sync) = member.sync.take() {
            answer(sync, Err(ResponseError::FencedInstanceId));
        }
        self.members.insert(new.to_owned(), member);
        if self.leader == old {
            new.clone_into(&mut self.leader);
        }
    }

    fn add(&mut self, id: String, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        if self.members.len() >= MEMBERS_MAX {
            return answer(reply, Err((ResponseError::GroupMaxSizeReached, id)));
        }
        self.protocol_type = join.protocol_type;
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            protocols: join.protocols,
            assignment: Bytes::new(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            deadline: now + join.session_timeout,
            join: Some(reply),
            sync: None,
        };
        self.members.insert(id, member);
        self.prepare(now);
    }

    fn rejoin(&mut self, join: Join, now: Instant, reply: oneshot::Sender<JoinReply>) {
        let is_leader = self.leader == join.member_id;
        let Some(member) = self.members.get_mut(&join.member_id) else {
            return answer(reply, Err((ResponseError::UnknownMemberId, join.member_id)));
        };
        let same = member.protocols == join.protocols && member.instance_id == join.instance_id;
        member.deadline = now + join.session_timeout;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.protocols = join.protocols;
        let unchanged = match self.state {
            // The answer to the first join was lost on its way.
            State::Completing { .. } => same,
            // A leader that joins again wants a new assignment, a follower only to know where it is.
            State::Stable => same && !is_leader && join.instance_id.is_none(),
            State::Empty | State::Preparing { .. } => false,
        };
        if unchanged {
            let joined = self.joined(&join.member_id);
            return answer(reply, Ok(joined));
        }
        if let Some(old) = member.join.replace(reply) {
            answer(old, Err((ResponseError::RebalanceInProgress, join.member_id)));
        }
        self.prepare(now);
    }

    fn joined(&self, member_id: &str) -> Joined {
        let all = self.members.iter().map(|(id, m)| (id.clone(), m.instance_id.clone(), m.metadata(&self.protocol)));
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: member_id.to_owned(),
            members: if member_id == self.leader { all.collect() } else { Vec::new() },
        }
    }

    /// Starts a rebalance unless one is under way, and ends it when nobody is missing.
    fn prepare(&mut self, now: Instant) {
        match self.state {
            State::Preparing { .. } => {}
            State::Empty => {
                self.state = State::Preparing { deadline: now + self.initial_delay, initial: true };
            }
            State::Completing { .. } | State::Stable => {
                for member in self.members.values_mut() {
                    if let Some(sync) = member.sync.take() {
                        // Its session did not run while it waited.
                        member.deadline = now + member.session_timeout;
                        answer(sync, Err(ResponseError::RebalanceInProgress));
                    }
                }
                self.state = State::Preparing { deadline: now + self.rebalance_timeout(), initial: false };
            }
        }
        self.maybe_complete_join(now);
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or_default()
    }

    fn maybe_complete_join(&mut self, now: Instant) {
        let State::Preparing { deadline, initial } = self.state else { return };
        let all_here = !initial && self.pending.is_empty() && self.members.values().all(|m| m.join.is_some());
        if all_here || deadline <= now || self.members.is_empty() {
            self.complete_join(now);
        }
    }

    fn complete_join(&mut self, now: Instant) {
        self.members.retain(|_, m| m.join.is_some());
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.leader.clear();
            self.protocol.clear();
            return;
        }
        self.protocol = self.vote();
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        self.state = State::Completing { deadline: now + self.rebalance_timeout() };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.deadline = now + member.session_timeout;
            member.assignment = Bytes::new();
            if let Some(join) = member.join.take() {
                answer(join, Ok(joined));
            }
        }
    }

    /// The protocol that all members know and most prefer.
    fn vote(&self) -> String {
        let common = |name: &str| self.members.values().all(|m| m.protocols.iter().any(|(n, _)| n == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, n)| *n).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    pub fn sync(
        &mut self,
        caller: &Caller<'_>,
        assignments: Vec<(String, Bytes)>,
        now: Instant,
        reply: oneshot::Sender<SyncReply>,
    ) {
        if let Err(error) = self.check(caller) {
            return answer(reply, Err(error));
        }
        let synced = Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: Bytes::new(),
        };
        let is_leader = self.leader == caller.member_id;
        let state = self.state;
        let Some(member) = self.members.get_mut(caller.member_id) else { return };
        member.deadline = now + member.session_timeout;
        match state {
            State::Empty => answer(reply, Err(ResponseError::UnknownMemberId)),
            State::Preparing { .. } => answer(reply, Err(ResponseError::RebalanceInProgress)),
            State::Stable => {
                let assignment = member.assignment.clone();
                answer(reply, Ok(Synced { assignment, ..synced }));
            }
            State::Completing { .. } => {
                member.sync = Some(reply);
                if is_leader {
                    self.assign(assignments, &synced, now);
                }
            }
        }
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, synced: &Synced, now: Instant) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.state = State::Stable;
        for member in self.members.values_mut() {
            member.deadline = now + member.session_timeout;
            if let Some(sync) = member.sync.take() {
                answer(sync, Ok(Synced { assignment: member.assignment.clone(), ..synced.clone() }));
            }
        }
    }

    pub fn heartbeat(&mut self, caller: &Caller<'_>, now: Instant) -> Result<(), ResponseError> {
        self.check(caller)?;
        self.heard_of(caller.member_id, now);
        match self.state {
            State::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::Completing { .. } | State::Stable => Ok(()),
        }
    }

    /// Whether this caller may commit. Without a member id: only while nobody is in the group.
    pub fn check_commit(&mut self, caller: &Caller<'_>, now: Instant) -> Result<(), ResponseError> {
        if caller.generation < 0 && caller.member_id.is_empty() && caller.instance_id.is_none() {
            let free = self.members.is_empty();
            return if free { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.check(caller)?;
        self.heard_of(caller.member_id, now);
        match self.state {
            // The partitions may already be somebody else's.
            State::Completing { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub fn leave(&mut self, caller: &Caller<'_>, now: Instant) -> Result<(), ResponseError> {
        if self.pending.remove(caller.member_id).is_some() {
            self.maybe_complete_join(now);
            return Ok(());
        }
        let by_instance = |(_, m): &(&String, &Member)| m.instance_id.as_deref() == caller.instance_id;
        let id = match caller.instance_id {
            Some(_) if caller.member_id.is_empty() => {
                let found = self.members.iter().find(by_instance);
                found.map(|(id, _)| id.clone()).ok_or(ResponseError::UnknownMemberId)?
            }
            _ => {
                self.known(caller)?;
                caller.member_id.to_owned()
            }
        };
        self.remove(&id, ResponseError::UnknownMemberId, now);
        Ok(())
    }

    fn remove(&mut self, id: &str, reason: ResponseError, now: Instant) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(join) = member.join {
            answer(join, Err((reason, id.to_owned())));
        }
        if let Some(sync) = member.sync {
            answer(sync, Err(reason));
        }
        self.prepare(now);
    }

    fn heard_of(&mut self, id: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline = now + member.session_timeout;
        }
    }

    fn known(&self, caller: &Caller<'_>) -> Result<(), ResponseError> {
        if let Some(instance) = caller.instance_id {
            let holder = self.members.iter().find(|(_, m)| m.instance_id.as_deref() == Some(instance));
            if holder.is_some_and(|(id, _)| id != caller.member_id) {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        if self.members.contains_key(caller.member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn check(&self, caller: &Caller<'_>) -> Result<(), ResponseError> {
        self.known(caller)?;
        if caller.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// When [`Self::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.state {
            State::Preparing { deadline, .. } | State::Completing { deadline } => Some(deadline),
            State::Empty | State::Stable => None,
        };
        let sessions = self.members.values().filter(|m| !m.is_waiting()).map(|m| m.deadline);
        phase.into_iter().chain(sessions).chain(self.pending.values().copied()).min()
    }

    /// Ends what is due: lapsed ids, dead members, phases of a rebalance.
    pub fn tick(&mut self, now: Instant) {
        self.pending.retain(|_, lapses| *lapses > now);
        let dead = |m: &Member| !m.is_waiting() && m.deadline <= now;
        let dead: Vec<String> = self.members.iter().filter(|(_, m)| dead(m)).map(|(id, _)| id.clone()).collect();
        for id in dead {
            self.remove(&id, ResponseError::UnknownMemberId, now);
        }
        match self.state {
            State::Preparing { .. } => self.maybe_complete_join(now),
            State::Completing { deadline } if deadline <= now => {
                // The leader is late, or members never asked for their assignment.
                let late: Vec<String> =
                    self.members.iter().filter(|(_, m)| m.sync.is_none()).map(|(id, _)| id.clone()).collect();
                for id in late {
                    self.remove(&id, ResponseError::UnknownMemberId, now);
                }
            }
            _ => {}
        }
    }
}

/// Nobody listens when the client has gone away; its session then runs out.
fn answer<T>(reply: oneshot::Sender<T>, with: T) {
    let _gone = reply.send(with);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A group, a clock that stands until it is moved, and the answers that are awaited.
    struct Scene {
        group: Group,
        start: Instant,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let start = Instant::now();
            Self { group: Group::new(150 * MS), start, now: start }
        }

        /// Moves the clock in the steps that the timer would take.
        fn advance(&mut self, by: Duration) {
            let end = self.now + by;
            while let Some(due) = self.group.next_deadline().filter(|due| *due <= end) {
                self.now = due.max(self.now);
                self.group.tick(self.now);
                assert!(self.group.next_deadline().is_none_or(|next| next > self.now), "the timer would spin");
            }
            self.now = end;
        }

        fn send(&mut self, join: Join) -> oneshot::Receiver<JoinReply> {
            let (reply, answer) = oneshot::channel();
            self.group.join(join, self.now, reply);
            answer
        }

        /// A member that joins under an id of its own choosing, as an old client would.
        fn join(&mut self, fresh_id: &str) -> oneshot::Receiver<JoinReply> {
            self.send(request("", fresh_id))
        }
        fn rejoin(&mut self, id: &str) -> oneshot::Receiver<JoinReply> {
            self.send(request(id, "unused"))
        }

        fn sync(&mut self, id: &str, assignments: &[(&str, &'static str)]) -> oneshot::Receiver<SyncReply> {
            let (reply, answer) = oneshot::channel();
            let given = assignments.iter().map(|(id, a)| ((*id).to_owned(), Bytes::from_static(a.as_bytes())));
            let caller = Caller { member_id: id, instance_id: None, generation: self.group.generation };
            self.group.sync(&caller, given.collect(), self.now, reply);
            answer
        }

        fn heartbeat(&mut self, id: &str) -> Result<(), ResponseError> {
            let caller = Caller { member_id: id, instance_id: None, generation: self.group.generation };
            self.group.heartbeat(&caller, self.now)
        }

        /// `a` leads, `b` follows, both have their assignment.
        fn two_members() -> Self {
            let mut scene = Self::new();
            let (mut a, mut b) = (scene.join("a"), scene.join("b"));
            scene.advance(150 * MS);
            assert_eq!(a.try_recv().unwrap().unwrap().members.len(), 2);
            assert!(b.try_recv().unwrap().unwrap().members.is_empty());
            let mut follower = scene.sync("b", &[]);
            let mut leader = scene.sync("a", &[("a", "0"), ("b", "1")]);
            assert_eq!(leader.try_recv().unwrap().unwrap().assignment, "0");
            assert_eq!(follower.try_recv().unwrap().unwrap().assignment, "1");
            assert_eq!(scene.group.state(), State::Stable);
            scene
        }
    }

    fn request(member_id: &str, fresh_id: &str) -> Join {
        Join {
            member_id: member_id.to_owned(),
            instance_id: None,
            client_id: "test".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: 6000 * MS,
            rebalance_timeout: 20_000 * MS,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::new()), ("roundrobin".to_owned(), Bytes::new())],
            requires_known_id: false,
            fresh_id: fresh_id.to_owned(),
        }
    }

    #[test]
    fn the_first_join_waits_only_the_initial_delay() {
        let mut scene = Scene::new();
        let mut a = scene.join("a");
        scene.advance(149 * MS);
        assert!(a.try_recv().is_err());
        scene.advance(MS);
        let joined = a.try_recv().unwrap().unwrap();
        assert_eq!((joined.generation, joined.leader.as_str(), joined.protocol.as_str()), (1, "a", "range"));
    }

    #[test]
    fn a_new_member_sends_the_others_back_to_join() {
        let mut scene = Scene::two_members();
        let mut c = scene.join("c");
        assert_eq!(scene.heartbeat("a"), Err(ResponseError::RebalanceInProgress));
        let mut a = scene.rejoin("a");
        assert!(c.try_recv().is_err(), "b is missing");
        let mut b = scene.rejoin("b");
        for answer in [&mut a, &mut b, &mut c] {
            assert_eq!(answer.try_recv().unwrap().unwrap().generation, 2);
        }
        assert_eq!(scene.heartbeat("a"), Ok(()));
    }

    #[test]
    fn who_does_not_come_back_in_time_is_out() {
        let mut scene = Scene::two_members();
        let mut c = scene.join("c");
        let mut a = scene.rejoin("a");
        for _ in 0..20 {
            scene.advance(999 * MS);
            assert_eq!(scene.heartbeat("b"), Err(ResponseError::RebalanceInProgress), "alive, but it does not join");
        }
        scene.advance(1000 * MS);
        assert_eq!(a.try_recv().unwrap().unwrap().members.len(), 2);
        assert!(c.try_recv().unwrap().is_ok());
        assert_eq!(scene.heartbeat("b"), Err(ResponseError::UnknownMemberId));
    }

    #[test]
    fn a_silent_member_is_dead_after_its_session() {
        let mut scene = Scene::two_members();
        for _ in 0..5 {
            scene.advance(1199 * MS);
            assert_eq!(scene.heartbeat("a"), Ok(()));
        }
        scene.advance(10 * MS);
        assert_eq!(scene.heartbeat("a"), Err(ResponseError::RebalanceInProgress));
        let mut a = scene.rejoin("a");
        assert_eq!(a.try_recv().unwrap().unwrap().members.len(), 1);
        assert!(scene.now - scene.start < 7000 * MS);
    }

    #[test]
    fn a_member_that_leaves_is_missed_at_once() {
        let mut scene = Scene::two_members();
        let caller = Caller { member_id: "a", instance_id: None, generation: -1 };
        assert_eq!(scene.group.leave(&caller, scene.now), Ok(()));
        assert_eq!(scene.group.leave(&caller, scene.now), Err(ResponseError::UnknownMemberId));
        let mut b = scene.rejoin("b");
        let joined = b.try_recv().unwrap().unwrap();
        assert_eq!((joined.leader.as_str(), joined.members.len()), ("b", 1));
        let caller = Caller { member_id: "b", ..caller };
        assert_eq!(scene.group.leave(&caller, scene.now), Ok(()));
        assert_eq!(scene.group.state(), State::Empty);
        assert!(scene.group.is_void() && scene.group.next_deadline().is_none());
    }

    #[test]
    fn new_members_are_told_their_id_first() {
        let mut scene = Scene::new();
        let mut told = scene.send(Join { requires_known_id: true, ..request("", "given") });
        assert_eq!(told.try_recv().unwrap(), Err((ResponseError::MemberIdRequired, "given".to_owned())));
        let mut joined = scene.rejoin("given");
        scene.advance(150 * MS);
        assert!(joined.try_recv().unwrap().is_ok());
        let mut lapsed = scene.send(Join { requires_known_id: true, ..request("", "forgotten") });
        assert!(lapsed.try_recv().unwrap().is_err());
        scene.advance(6001 * MS);
        let mut late = scene.rejoin("forgotten");
        assert_eq!(late.try_recv().unwrap().unwrap_err().0, ResponseError::UnknownMemberId);
    }

    #[test]
    fn a_leader_without_an_assignment_is_out() {
        let mut scene = Scene::new();
        let (_a, _b) = (scene.join("a"), scene.join("b"));
        scene.advance(150 * MS);
        let mut b = scene.sync("b", &[]);
        for _ in 0..25 {
            scene.advance(1000 * MS);
            let _alive = scene.heartbeat("a");
        }
        assert_eq!(b.try_recv().unwrap(), Err(ResponseError::RebalanceInProgress));
        assert_eq!(scene.heartbeat("a"), Err(ResponseError::UnknownMemberId));
    }

    #[test]
    fn a_static_member_takes_over_from_itself() {
        let mut scene = Scene::new();
        let with = |fresh: &str| Join { instance_id: Some("node-1".to_owned()), ..request("", fresh) };
        let mut first = scene.send(with("a"));
        scene.advance(150 * MS);
        assert!(first.try_recv().unwrap().is_ok());
        let mut second = scene.send(with("b"));
        assert_eq!(second.try_recv().unwrap().unwrap().leader, "b");
        let fenced = Caller { member_id: "a", instance_id: Some("node-1"), generation: 1 };
        assert_eq!(scene.group.heartbeat(&fenced, scene.now), Err(ResponseError::FencedInstanceId));
    }

    #[test]
    fn who_may_commit() {
        let mut scene = Scene::two_members();
        let mut check = |member_id, generation, want: Result<(), ResponseError>| {
            let caller = Caller { member_id, instance_id: None, generation };
            assert_eq!(scene.group.check_commit(&caller, scene.now), want, "{member_id} {generation}");
        };
        check("a", 1, Ok(()));
        check("a", 0, Err(ResponseError::IllegalGeneration));
        check("nobody", 1, Err(ResponseError::UnknownMemberId));
        check("", -1, Err(ResponseError::UnknownMemberId));
        let caller = Caller { member_id: "", instance_id: None, generation: -1 };
        assert_eq!(Group::new(MS).check_commit(&caller, Instant::now()), Ok(()));
    }

    #[test]
    fn members_need_a_protocol_in_common() {
        let mut scene = Scene::two_members();
        let odd = vec![("sticky".to_owned(), Bytes::new())];
        let mut refused = scene.send(Join { protocols: odd, ..request("", "c") });
        assert_eq!(refused.try_recv().unwrap().unwrap_err().0, ResponseError::InconsistentGroupProtocol);
        let some = vec![("sticky".to_owned(), Bytes::new()), ("roundrobin".to_owned(), Bytes::new())];
        let mut c = scene.send(Join { protocols: some, ..request("", "c") });
        let (_a, _b) = (scene.rejoin("a"), scene.rejoin("b"));
        assert_eq!(c.try_recv().unwrap().unwrap().protocol, "roundrobin");
    }
}
