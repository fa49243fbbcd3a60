//! The lanes of the benchmark. Here each agent has one action, so each agent is one lane.

use std::net::Ipv4Addr;
use std::ops::Range;

use clap::ValueEnum;

use crate::calls;
use crate::receiver::{Behaviour, Receiver, host};

/// What a delivery's request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Body {
    /// The action has a body template, which is rendered.
    Rendered,
    /// The action has no body template, so the whole call is sent.
    Default,
}

/// The only action of an agent.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The name of the agent.
    pub agent: String,
    /// The URL that its calls are sent to.
    pub url: String,
    /// What the requests carry.
    pub body: Body,
}

impl Lane {
    /// The lanes of the first `count` agents, all on one host that answers at once.
    pub fn on_one_host(receiver: &Receiver, count: usize, body: Body) -> Vec<Lane> {
        let url = |lane| receiver.url_of(Behaviour::Answer, Ipv4Addr::LOCALHOST, lane);
        (0..count).map(|lane| Lane { agent: calls::agent_of(lane), url: url(lane), body }).collect()
    }
}

/// A group of lanes whose receivers behave alike. Lane numbers are unique in a run, so that a receiver can tell lanes
/// apart.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The beginning of the agents' names.
    pub name: &'static str,
    /// The number of the first lane.
    pub first: usize,
    /// How many lanes there are.
    pub count: usize,
    /// How their receivers behave.
    pub behaviour: Behaviour,
    /// How many hosts the lanes are spread over. The first host has the number of the first lane.
    pub hosts: usize,
}

impl Group {
    /// The lanes of this group.
    pub fn lanes(&self, receiver: &Receiver) -> Vec<Lane> {
        let url = |number: usize| {
            let host = host(self.first + number % self.hosts);
            match self.behaviour {
                Behaviour::Hostile => receiver.open_hostile(host, number - self.first),
                behaviour => receiver.url_of(behaviour, host, number),
            }
        };
        let lane = |number: usize| Lane {
            agent: format!("{}_{number:05}", self.name),
            url: url(number),
            body: Body::Rendered,
        };
        self.numbers().map(lane).collect()
    }

    /// The numbers of the lanes of this group.
    pub fn numbers(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}
