//! To whom calls go: a lane is one action of one agent, and what waits for it.

use std::net::Ipv4Addr;
use std::ops::Range;

use clap::ValueEnum;

use crate::calls;
use crate::receiver::{Behaviour, Receiver, host};

/// What a delivery's request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Body {
    /// A body template is filled in.
    Rendered,
    /// The action has no body template: the whole call is sent.
    Default,
}

/// One action of an agent that has no other.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The agent.
    pub agent: String,
    /// Where its calls are sent.
    pub url: String,
    /// What they carry.
    pub body: Body,
}

impl Lane {
    /// The lanes of the first `count` agents, all on one host that answers.
    pub fn on_one_host(receiver: &Receiver, count: usize, body: Body) -> Vec<Lane> {
        let url = |lane| receiver.url_of(Behaviour::Answer, Ipv4Addr::LOCALHOST, lane);
        (0..count).map(|lane| Lane { agent: calls::agent_of(lane), url: url(lane), body }).collect()
    }
}

/// A group of lanes that behave alike. Lanes are numbered through all groups of a run, so that a receiver can tell them.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// What their agents' names begin with.
    pub name: &'static str,
    /// The number of the first.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// How their receivers behave.
    pub behaviour: Behaviour,
    /// Over how many hosts they are spread; the first host has the number of the first lane.
    pub hosts: usize,
}

impl Group {
    /// Its lanes.
    pub fn lanes(&self, receiver: &Receiver) -> Vec<Lane> {
        let lane = |number: usize| Lane {
            agent: format!("{}_{number:05}", self.name),
            url: receiver.url_of(self.behaviour, host(self.first + number % self.hosts), number),
            body: Body::Rendered,
        };
        self.numbers().map(lane).collect()
    }

    /// Its numbers.
    pub fn numbers(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}
