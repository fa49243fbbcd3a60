//! The steps of the model. Each says which function or statement of the program it stands for.

use std::fmt;

use super::state::Order;

/// Something that goes wrong. Each uses up one of the scenario's faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Pause,
    LoseClaim,
    LoseRevocation,
    LoseCompletion,
    LateRenewal,
    Crash,
    FailOver,
    Drain,
    LoseRetirement,
    LeaveUnwritten,
    CutRequest,
    Unreachable,
    SendAway,
}

/// A step. `x` is a delivery, `c` a claim, `p` a process, `r` a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Arrow `insert`: the platform commits a call; `await_deliveries` (trigger) writes the row of `waiting`.
    Insert(u8),
    /// `Claimer::take` and the first half of `Session::claim`: the statement runs. It locks the claimant's row
    /// (`FOR KEY SHARE`) and rows of `waiting` (`SKIP LOCKED`), or takes nothing.
    AskClaim(u8),
    /// `Claimer::take`: the statement is written to the connection, and is late.
    DelayClaim(u8),
    /// A late claim reaches the database.
    RunClaim(u8),
    /// Arrow `claim`: `Session::claim` commits; its rows move from `waiting` to `sending`. If the claimer still waits, the
    /// answer arrives: one `Claimed` for each delivery. (An answer that is lost after the commit is the same as one that
    /// is lost before, because the loss concerns the claimer alone, and the commit the database alone.)
    CommitClaim(u8),
    /// The answer of `Session::claim` does not come, or not in time; the claimer notes a `ClaimInDoubt`.
    LoseClaim(u8),
    /// A claim for whose answer nobody waits never reaches the database.
    VanishClaim(u8),
    /// `Session::revoke_claim`, its first statement: raises the epoch (`FOR UPDATE` waits for a running claim).
    RaiseEpoch(u8),
    /// The same; its answer is lost.
    LoseRaise(u8),
    /// The same; it is lost on its way, and may arrive later.
    DelayRaise(u8),
    /// The same, arriving late.
    LateRaise(u8),
    /// The same, never arriving.
    VanishRaise(u8),
    /// Arrow `revoke`: `Session::revoke_claim`, its second statement: what the claim took goes back to `waiting`. Arrow
    /// `unsent_claim`: `record_claim_unsent`.
    TakeBack(u8),
    /// The same; its answer is lost.
    LoseTakeBack(u8),
    /// `Claimer::run`, its end: the last try to revoke fails.
    AbandonDoubt(u8),
    /// `Webhook::send` looks at the send gate and writes the request; the receiver gets it, and takes or refuses it.
    Begin(u8, u8, bool),
    /// The response head arrives.
    Answer(u8, u8),
    /// The connection ends, or the deadline passes, after the request was written.
    Cut(u8, u8),
    /// As `Cut`, and the receiver never got the request.
    CutUnreceived(u8, u8),
    /// The receiver cannot be reached: certainly nothing was sent.
    Fail(u8, u8),
    /// `Ending::Unsent`: the send gate is closed, the drain cuts the attempt off, the limit of connections sends it
    /// away, or the egress proxy lets nothing pass.
    Unsend(u8, u8),
    /// Arrow `finish`: `Session::finish` moves the row from `sending` to `delivery`, or finds it recorded already, or no
    /// longer held.
    Finish(u8, u8),
    /// The same; its answer is lost.
    LoseFinish(u8, u8),
    /// Arrow `evidence`: `Session::record_evidence` writes what was learnt late beside history.
    Evidence(u8, u8),
    /// The same; its answer is lost.
    LoseEvidence(u8, u8),
    /// Arrow `release`: `Session::release` puts what is known to be unsent back to `waiting`. Arrow `unsent`: if others gave
    /// it up, `Session::record_unsent` says that it was never sent.
    Release(u8, u8),
    /// The same; its answer is lost.
    LoseRelease(u8, u8),
    /// `LeaseKeeper::beat`: `Session::renew`, or `Session::register` if the dispatcher was declared lost.
    Renew(u8),
    /// `Session::renew`; its answer is lost.
    LoseRenewal(u8),
    /// Time passes for a lease and for its send gate, which closes first.
    Tick(u8),
    /// `Session::declare_lost`.
    DeclareLost(u8),
    /// Arrow `give_up`: `Session::left_behind` and `Session::mark_in_flight_unknown` move a row from `sending` to `delivery`.
    GiveUp(u8),
    /// SIGSTOP, or a machine that sleeps.
    Pause(u8),
    /// SIGCONT.
    Continue(u8),
    /// SIGKILL.
    Kill(u8),
    /// A dispatcher starts: `Session::register`.
    Start(u8),
    /// SIGTERM: it claims no more.
    Drain(u8),
    /// `LAST_WRITES` is over: results that the database did not take are left.
    LeaveUnwritten(u8),
    /// `Session::retire`.
    Retire(u8),
    /// The same; it does not reach the database.
    LoseRetirement(u8),
    /// The server stops at once and comes back, or its synchronous standby takes its place. What is not committed is gone.
    Crash,
    /// The same, just after what ran was committed; nobody heard of it.
    CrashAfterCommits,
    /// The standby catches up.
    Replicate,
    /// The asynchronous standby takes the server's place.
    FailOver,
    /// A person looks at a delivery under its lock (`lock_deliveries`, `admit_finding`), and decides.
    Look(u8, Order, u8),
    /// Arrow `replay`: `Store::replay` commits; arrow `resolve`: `Store::resolve` commits.
    Settle(u8),
    /// `Store::pause`: a person pauses the host.
    PauseHost,
    /// `Store::resume`.
    ResumeHost,
    /// `Scout`: the dispatcher sees what is paused.
    Scout(u8),
    /// A person disables the action.
    Disable,
}

impl Action {
    /// Whether the step belongs to a world that behaves: nothing goes wrong, no order is given and no call comes any more;
    /// time passes only for those who have ended; what is on its way arrives; somebody keeps a dispatcher running.
    pub fn behaves(self) -> bool {
        use Action::*;
        match self {
            AskClaim(_) | RunClaim(_) | CommitClaim(_) | VanishClaim(_) | RaiseEpoch(_) | LateRaise(_)
            | VanishRaise(_) | TakeBack(_) | Begin(..) | Answer(..) | Unsend(..) | Finish(..) | Evidence(..)
            | Release(..) | Renew(_) | Tick(_) | DeclareLost(_) | GiveUp(_) | Continue(_) | Start(_) | Retire(_)
            | Settle(_) | ResumeHost | Scout(_) => true,
            Insert(_) | DelayClaim(_) | LoseClaim(_) | LoseRaise(_) | DelayRaise(_) | LoseTakeBack(_)
            | AbandonDoubt(_) | Cut(..) | CutUnreceived(..) | Fail(..) | LoseFinish(..) | LoseEvidence(..)
            | LoseRelease(..) | LoseRenewal(_) | Pause(_) | Kill(_) | Drain(_) | LeaveUnwritten(_)
            | LoseRetirement(_) | Crash | CrashAfterCommits | Replicate | FailOver | Look(..) | PauseHost | Disable => {
                false
            }
        }
    }
}

fn dispatcher(p: u8) -> char {
    char::from(b'A' + p)
}

/// The step as a sentence of a story.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Action::*;
        match *self {
            Insert(x) => write!(f, "the platform commits a call: delivery {x} waits"),
            AskClaim(p) => write!(f, "dispatcher {} makes a claim, which runs", dispatcher(p)),
            DelayClaim(p) => write!(f, "dispatcher {} makes a claim, which is late", dispatcher(p)),
            RunClaim(c) => write!(f, "claim {c}, which was late, reaches the database"),
            CommitClaim(c) => write!(f, "claim {c} commits, and whoever waits gets its answer"),
            LoseClaim(c) => write!(f, "the answer of claim {c} is lost"),
            VanishClaim(c) => write!(f, "claim {c} never reaches the database"),
            RaiseEpoch(p) => write!(f, "dispatcher {} revokes its claim: the epoch is raised", dispatcher(p)),
            LoseRaise(p) => write!(f, "dispatcher {} raises its epoch, and the answer is lost", dispatcher(p)),
            DelayRaise(p) => write!(f, "dispatcher {} revokes its claim; the statement does not arrive", dispatcher(p)),
            LateRaise(r) => write!(f, "a revocation of registration {r} arrives late"),
            VanishRaise(r) => write!(f, "a revocation of registration {r} never arrives"),
            TakeBack(p) => write!(f, "dispatcher {} puts back what its revoked claim took", dispatcher(p)),
            LoseTakeBack(p) => write!(f, "dispatcher {} does so, and the answer is lost", dispatcher(p)),
            AbandonDoubt(p) => write!(f, "dispatcher {} cannot revoke its claim before it ends", dispatcher(p)),
            Begin(c, x, true) => write!(f, "delivery {x} is requested under claim {c}; the receiver takes it"),
            Begin(c, x, false) => write!(f, "delivery {x} is requested under claim {c}; the receiver refuses it"),
            Answer(c, x) => write!(f, "the response for delivery {x} under claim {c} arrives"),
            Cut(c, x) => write!(f, "the connection of delivery {x} under claim {c} ends before a response"),
            CutUnreceived(c, x) => write!(f, "delivery {x} is written under claim {c} and never received"),
            Fail(c, x) => write!(f, "the receiver of delivery {x} under claim {c} cannot be reached"),
            Unsend(c, x) => write!(f, "delivery {x} is not sent under claim {c}"),
            _ => self.tell_the_rest(f),
        }
    }
}

impl Action {
    fn tell_the_rest(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Action::*;
        match self {
            Finish(c, x) => write!(f, "the result of delivery {x} is recorded under claim {c}"),
            LoseFinish(c, x) => {
                write!(f, "the result of delivery {x} is recorded under claim {c}, and the answer is lost")
            }
            Evidence(c, x) => write!(f, "what claim {c} learnt late about delivery {x} is recorded as evidence"),
            LoseEvidence(c, x) => {
                write!(f, "evidence of claim {c} about delivery {x} is recorded, and the answer is lost")
            }
            Release(c, x) => write!(f, "delivery {x}, unsent under claim {c}, is put back"),
            LoseRelease(c, x) => write!(f, "delivery {x}, unsent under claim {c}, is put back, and the answer is lost"),
            Renew(p) => write!(f, "dispatcher {} renews its lease, or begins anew", dispatcher(p)),
            LoseRenewal(p) => write!(f, "dispatcher {} renews its lease, and the answer is lost", dispatcher(p)),
            Tick(r) => write!(f, "time passes for the lease of registration {r}"),
            DeclareLost(r) => write!(f, "registration {r} is declared lost"),
            GiveUp(x) => write!(f, "delivery {x}, left behind in flight, is given up"),
            Pause(p) => write!(f, "dispatcher {} is stopped", dispatcher(p)),
            Continue(p) => write!(f, "dispatcher {} goes on", dispatcher(p)),
            Kill(p) => write!(f, "dispatcher {} is killed", dispatcher(p)),
            Start(p) => write!(f, "dispatcher {} starts", dispatcher(p)),
            Drain(p) => write!(f, "dispatcher {} is told to end", dispatcher(p)),
            LeaveUnwritten(p) => write!(f, "dispatcher {} leaves results unwritten", dispatcher(p)),
            Retire(p) => write!(f, "dispatcher {} retires", dispatcher(p)),
            LoseRetirement(p) => write!(f, "dispatcher {} ends, and cannot say so", dispatcher(p)),
            Crash => write!(f, "the server crashes and comes back, or its synchronous standby does"),
            CrashAfterCommits => write!(f, "the server crashes just after its commits, and comes back"),
            Replicate => write!(f, "the standby catches up"),
            FailOver => write!(f, "the asynchronous standby takes the server's place"),
            Look(i, order, x) => write!(f, "person {i} decides about delivery {x}: {order:?}"),
            Settle(i) => write!(f, "what person {i} decided is committed"),
            PauseHost => write!(f, "a person pauses the host"),
            ResumeHost => write!(f, "a person resumes the host"),
            Scout(p) => write!(f, "dispatcher {} looks at the pauses", dispatcher(p)),
            Disable => write!(f, "a person disables the action"),
            other => write!(f, "{other:?}"),
        }
    }
}
