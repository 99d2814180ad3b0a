//! What people ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everynode_agent_core::{Event, HoldChange, Scope};
use everynode_coordinator_core::{Command, NodeChange, PutMode, SetView, TokenRecord};
use everynode_model::{
    Canary, CanaryWait, DaemonSet, Digest, Effect, IntOrPercent, Labels, OnFailure, Placement,
    RolloutPolicy, Selector, SetUid, Strategy, Taint, Toleration, TolerationOperator, WallTime,
};

use crate::dice::Dice;
use crate::faults::wall;
use crate::names::{BODIES, SETS, can_be_honoured, key, node_name, revision};
use crate::seat::{Seat, Token};
use crate::world::World;

/// The most machines there are: few, so that everything happens to each.
const MACHINES: usize = 6;
/// A year: longer than clocks are wrong by most of the time.
const LONG: i64 = 365 * 24 * 3_600_000;

/// A set is made or changed.
pub(crate) fn apply(world: &mut World) {
    let (set, body) = (world.dice.below(SETS.len()), world.dice.below(BODIES.len() + 4));
    // The one that can't be honoured comes more seldom than the others.
    let body = BODIES.get(body).copied().unwrap_or(BODIES[body % 3]);
    let command = put(world, SETS[set], body);
    world.command(command);
    world.log.fault("apply", set);
}

/// A set is deleted.
pub(crate) fn delete_set(world: &mut World) {
    let set = world.dice.below(SETS.len());
    world.command(Command::DeleteSet { key: key(SETS[set]), uid: None });
    world.log.fault("delete set", set);
}

/// A set is deleted and made again at once, as another of the same name.
pub(crate) fn recreate_set(world: &mut World) {
    let set = world.dice.below(SETS.len());
    world.command(Command::DeleteSet { key: key(SETS[set]), uid: None });
    world.turn();
    let command = put(world, SETS[set], BODIES[0]);
    world.command(command);
    world.log.fault("recreate set", set);
}

/// `delete pod`.
pub(crate) fn delete_pod(world: &mut World) {
    let (seat, set) = (world.some_seat(), world.dice.below(SETS.len()));
    if let Some(node) = world.seats[seat].identity {
        world.command(Command::ReplacePod { node, key: key(SETS[set]) });
        world.log.fault("delete pod", seat);
    }
}

/// A node gets another label, taint or cordon, or loses one.
pub(crate) fn mark_node(world: &mut World) {
    let seat = world.some_seat();
    let effect = [Effect::NoSchedule, Effect::NoSchedule, Effect::NoExecute];
    let effect = effect[world.dice.below(effect.len())];
    let set_label = |value: &str| NodeChange::SetLabel {
        key: "tier".into(),
        value: value.into(),
        overwrite: true,
    };
    let change = match world.dice.below(6) {
        0 => set_label("a"),
        1 => set_label("b"),
        2 => NodeChange::RemoveLabel("tier".into()),
        3 => {
            let taint = Taint { key: "t".into(), value: String::new(), effect };
            NodeChange::SetTaint { taint, overwrite: true }
        }
        4 => NodeChange::RemoveTaint { key: "t".into(), effect: None },
        _ => NodeChange::SetUnschedulable(world.dice.one_in(2)),
    };
    world.command(Command::ChangeNode { name: node_name(seat), changes: vec![change] });
    world.log.fault("mark node", seat);
}

/// `delete node`.
pub(crate) fn delete_node(world: &mut World) {
    let seat = world.some_seat();
    world.command(Command::DeleteNode { name: node_name(seat), forget: false });
    world.log.fault("delete node", seat);
}

/// `delete node --forget`.
pub(crate) fn forget_node(world: &mut World) {
    let seat = world.some_seat();
    world.command(Command::DeleteNode { name: node_name(seat), forget: true });
    world.log.fault("forget node", seat);
}

/// One very node is forgotten, whoever has its name now.
pub(crate) fn forget_uid(world: &mut World) {
    let Some(fleet) = &world.desk.fleet else { return };
    let nodes = fleet.nodes();
    let at = world.dice.below(nodes.len());
    if let Some(node) = nodes.get(at) {
        world.command(Command::ForgetNode { uid: node.record.uid });
        world.log.fault("forget node by uid", at);
    }
}

/// Somebody has looked at what a restored store leads to, or says so.
pub(crate) fn resume(world: &mut World) {
    if world.desk.fleet.as_ref().is_some_and(|fleet| fleet.hold().is_some()) {
        let allow_removal = world.dice.one_in(2);
        world.command(Command::Resume { allow_removal });
        world.log.fault("resume", usize::from(allow_removal));
    }
}

/// Somebody at a machine keeps something as it is, or down, for a while or until it is released.
pub(crate) fn hold(world: &mut World) {
    let (seat, set) = (world.some_seat(), world.dice.below(2 * SETS.len()));
    let scope = SETS.get(set).map_or(Scope::Node, |name| Scope::Place(key(name)));
    let seconds = 5 + world.dice.below(200) as u64;
    let lasting = world.dice.one_in(2).then(|| Duration::from_secs(seconds));
    let (stop, by, reason) = (world.dice.one_in(3), "root".to_owned(), String::new());
    want(world, seat, HoldChange::Hold { scope, stop, by, reason, lasting });
    world.log.fault("hold", seat);
}

/// And has enough of it.
pub(crate) fn release(world: &mut World) {
    let (seat, set) = (world.some_seat(), world.dice.below(2 * SETS.len()));
    let scope = SETS.get(set).map_or(Scope::Node, |name| Scope::Place(key(name)));
    want(world, seat, HoldChange::Release(scope));
    world.log.fault("release", seat);
}

/// Everything is released that is held at a machine.
pub(crate) fn release_all(world: &mut World, seat: usize) {
    let held = |agent: &crate::seat::Agent| !agent.node.ledger().holds.is_empty();
    if world.seats[seat].agent.as_ref().is_some_and(held) {
        want(world, seat, HoldChange::Release(Scope::Node));
    }
}

fn want(world: &mut World, seat: usize, change: HoldChange) {
    if world.begin(seat) {
        let request = world.number();
        world.apply(seat, Event::HoldRequested { request, change });
    }
}

/// Somebody at a machine wants it to leave.
pub(crate) fn leave(world: &mut World) {
    let seat = world.some_seat();
    if !world.begin(seat) {
        return;
    }
    world.account.doomed.extend(world.seats[seat].identity);
    world.log.fault("leave", seat);
    world.apply(seat, Event::LeaveRequested);
    if let Some(agent) = &mut world.seats[seat].agent
        && agent.stream.is_some()
        && !agent.node.is_empty_here()
    {
        agent.outbox.leave = Some(false);
    }
}

/// Machines without an identity get a token.
pub(crate) fn give_token(world: &mut World) {
    let seat = world.some_seat();
    if world.seats[seat].identity.is_none() && world.seats[seat].token.is_none() {
        if world.dice.one_in(3) {
            // The one that was made for another, as long as it lasts.
            world.seats[seat].token.clone_from(&world.last_token);
            return;
        }
        let replace = world.dice.one_in(2);
        token(world, seat, replace);
        world.log.fault("token", seat);
    }
}

/// A machine that its coordinator knows no more is taken to it again, and keeps what it runs.
pub(crate) fn rejoin(world: &mut World) {
    let seat = world.some_seat();
    let Some(fleet) = &world.desk.fleet else { return };
    let unknown = world.seats[seat].identity.is_some_and(|node| fleet.standing(node).is_none());
    if unknown && !world.seats[seat].rejoins {
        world.seats[seat].rejoins = true;
        token(world, seat, true);
        world.log.fault("rejoin", seat);
    }
}

/// A token is ended before anybody has used it up.
pub(crate) fn revoke_token(world: &mut World) {
    let Some(fleet) = &world.desk.fleet else { return };
    let ids: Vec<String> = fleet.tokens().map(|token| token.id.clone()).collect();
    let at = world.dice.below(ids.len());
    if let Some(id) = ids.get(at).cloned() {
        world.command(Command::RevokeToken { id });
        world.log.fault("revoke token", 0);
    }
}

/// Another machine is switched on.
pub(crate) fn add_machine(world: &mut World) {
    if world.seats.len() < MACHINES {
        let number = world.number();
        world.seats.push(Seat::new(number, world.at));
        world.log.fault("machine added", world.seats.len());
    }
}

/// A token for a machine, and for its name where it `replace`s who has that.
pub(crate) fn token(world: &mut World, seat: usize, replace: bool) {
    let number = world.number();
    let now = wall(world).unix_millis;
    let lasts = if world.dice.one_in(6) { 20_000 } else { LONG };
    world.command(Command::CreateToken(TokenRecord {
        id: format!("{seat}-{number}"),
        secret: Digest::of(&number.to_be_bytes()),
        created_at: WallTime::from_unix_millis(now),
        expires_at: WallTime::from_unix_millis(now.saturating_add(lasts)),
        uses_left: Some(1 + u32::from(replace)),
        node_name: replace.then(|| node_name(seat)),
        replace,
    }));
}

/// A good template for every set that has one which can't be honoured or has failed, and nothing that
/// keeps it from everybody.
pub(crate) fn mend_templates(world: &mut World) {
    let Some(fleet) = &world.desk.fleet else { return };
    // A deadline, too: of a machine that is gone for good nothing more comes, late in the calm.
    let careful = |set: &SetView| set.record.set.rollout != RolloutPolicy::default();
    let failed = |set: &SetView| {
        let of_failure = ["ProgressDeadlineExceeded", "RollingBack", "RolledBack"];
        set.conditions.iter().any(|(_, _, reason)| of_failure.contains(&reason.code.as_str()))
    };
    let bad = |set: &SetView| !can_be_honoured(set.target) || failed(set);
    let sets = fleet.sets(None).into_iter();
    let sets: Vec<(bool, SetView)> =
        sets.filter(|set| bad(set) || careful(set)).map(|set| (bad(&set), set)).collect();
    for (bad, set) in sets {
        let number = world.number();
        let present = BODIES.iter().find(|body| revision(body) == set.target);
        let other = BODIES[..3].iter().find(|body| revision(body) != set.target);
        let body = if bad { other } else { present }.copied().unwrap_or(BODIES[1]);
        let rollout = RolloutPolicy::default();
        let set = DaemonSet { revision: revision(body), rollout, ..set.record.set.clone() };
        world.command(command(set, body, number));
    }
}

/// Another template that can be honoured.
pub(crate) fn another(world: &mut World, set: &DaemonSet) -> &'static str {
    let others = BODIES[..3].iter().filter(|body| revision(body) != set.revision);
    let others: Vec<&str> = others.copied().collect();
    world.dice.pick(&others).unwrap_or(BODIES[0])
}

/// A set gets this template.
pub(crate) fn change(world: &mut World, set: &DaemonSet, body: &str) {
    let number = world.number();
    let set = DaemonSet { revision: revision(body), ..set.clone() };
    world.command(command(set, body, number));
}

impl World {
    /// A token was made: its machine gets it, if it still has none.
    pub(crate) fn hand_over(&mut self, token: &TokenRecord) {
        if token.node_name.is_none() {
            self.last_token = Some(Token { id: token.id.clone(), secret: token.secret });
        }
        let seat = token.id.split('-').next().and_then(|seat| seat.parse::<usize>().ok());
        if let Some(one) = seat.and_then(|seat| self.seats.get_mut(seat)) {
            one.token = Some(Token { id: token.id.clone(), secret: token.secret });
        }
    }
}

fn put(world: &mut World, name: &str, body: &str) -> Command {
    let number = world.number();
    let dice = &mut world.dice;
    let set = DaemonSet {
        key: key(name),
        uid: SetUid::new(uuid::Uuid::from_u128(u128::from(number))),
        generation: 0,
        labels: Labels::new(),
        selector: Selector::from_labels(&Labels::from([("app".to_owned(), name.to_owned())])),
        placement: placement(dice.below(5)),
        strategy: match dice.below(7) {
            0 => Strategy::OnDelete,
            1 => Strategy::surging(IntOrPercent::Percent(40)),
            2 | 3 => Strategy::surging(IntOrPercent::Int(1)),
            4 => Strategy::rolling(IntOrPercent::Percent(40)),
            _ => Strategy::rolling(IntOrPercent::Int(1)),
        },
        rollout: RolloutPolicy::default(),
        min_ready: Duration::from_secs(5 * dice.below(3) as u64),
        history_limit: 1,
        revision: revision(body),
        features: BTreeSet::new(),
        reads: BTreeSet::new(),
    };
    let rollout = match set.strategy {
        // The door refuses it.
        Strategy::OnDelete => RolloutPolicy::default(),
        Strategy::RollingUpdate { .. } => policy(&mut world.dice),
    };
    command(DaemonSet { rollout, ..set }, body, number)
}

/// How carefully; most of the time as Kubernetes does.
fn policy(dice: &mut Dice) -> RolloutPolicy {
    let mut policy = RolloutPolicy::default();
    if dice.one_in(2) {
        return policy;
    }
    if dice.one_in(2) {
        let selector = || "tier=a".parse().ok();
        policy.canary = Some(Box::new(Canary {
            selector: dice.one_in(3).then(selector).flatten(),
            nodes: [None, Some(IntOrPercent::Int(1)), Some(IntOrPercent::Percent(50))]
                [dice.below(3)],
            wait: match dice.one_in(4) {
                true => CanaryWait::Manual,
                false => CanaryWait::For(Duration::from_secs(15 * dice.below(3) as u64)),
            },
            approved: dice.one_in(2).then(|| revision(BODIES[dice.below(3)]).short()),
        }));
    }
    policy.partition = [None, None, Some(IntOrPercent::Int(1))][dice.below(3)];
    policy.paused = dice.one_in(6);
    policy.progress_deadline = dice.one_in(2).then(|| Duration::from_secs(40));
    policy.on_failure = if dice.one_in(2) { OnFailure::Hold } else { OnFailure::Rollback };
    policy
}

fn command(set: DaemonSet, body: &str, number: u64) -> Command {
    Command::PutSet {
        mode: PutMode::Apply,
        set: Box::new(set),
        // Opaque to the core, and another one each time.
        object: number.to_be_bytes().into(),
        spec_changed: true,
        body: body.as_bytes().into(),
        normal_form: 1,
        change_cause: String::new(),
        expected_version: None,
        content: Box::default(),
    }
}

fn placement(kind: usize) -> Placement {
    let everything = Toleration { operator: TolerationOperator::Exists, ..Toleration::default() };
    match kind {
        0 => Placement {
            node_selector: BTreeMap::from([("tier".to_owned(), "a".to_owned())]),
            ..Placement::default()
        },
        1 => Placement { tolerations: vec![everything], ..Placement::default() },
        _ => Placement::default(),
    }
}
