//! The calls and the action: calls of about two and about twenty kilobytes, and the action of the platform's
//! documentation.

use clap::ValueEnum;
use postcall::domain::action_file::ActionFile;
use serde_json::{Value, json};

/// How many agents there are, each with an action of its own. Templates are looked up by version, so the figures of a
/// single agent would be too good.
pub const AGENTS: usize = 20;

/// How many different calls there are. The n-th call of a run is one of them, and no two in a row are the same.
const VARIETY: usize = 100;

/// Stands in the texts for the provider's id, and has the same length.
const SID: &str = "CA000000000000000000000000example0";

/// The size of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// About 2 KB, for a conversation of a minute.
    Small,
    /// About 20 KB, for a long conversation.
    Large,
}

impl Size {
    /// How often the transcript repeats its lines.
    fn rounds(self) -> usize {
        match self {
            Size::Small => 1,
            Size::Large => 18,
        }
    }
}

/// The name of the agent that held the `index`-th call.
pub fn agent(index: usize) -> String {
    agent_of(index % AGENTS)
}

/// The name of the agent with that number.
pub fn agent_of(number: usize) -> String {
    format!("agent_{number:05}")
}

/// The texts of all different small calls, without their ids.
pub fn all() -> Vec<String> {
    all_of(Size::Small)
}

/// The texts of all different calls of that size, without their ids.
pub fn all_of(size: Size) -> Vec<String> {
    (0..VARIETY).map(|index| call(index, size.rounds()).to_string()).collect()
}

/// The `index`-th call of a run, made from the texts of [`all`]. Each call has an id of its own. The ids come in no
/// order, like those of providers. If ids repeated, the figures of history's index on them would be too good.
pub fn nth(texts: &[String], index: usize) -> String {
    // Fibonacci hashing gives distinct values for distinct numbers.
    let scattered = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    texts[index % texts.len()].replace(SID, &format!("CA{scattered:016x}{index:016x}"))
}

/// The number of a call, from the provider's id that [`nth`] gave it. 0 for any other id.
pub fn index_of(sid: &str) -> u64 {
    sid.get(18..).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// The example action, sending to `url`.
pub fn action(url: &str) -> ActionFile {
    let file = json!({ "method": "POST", "url": url, "timeout": TIMEOUT_MS, "headers": HEADERS, "body": BODY });
    ActionFile::parse(&file.to_string()).unwrap()
}

/// The timeout of the example action, in milliseconds.
pub const TIMEOUT_MS: u32 = 15_000;

/// The headers of the example action. Receivers identify calls by `X-Call`.
pub const HEADERS: &str = r#"{"Content-Type": "application/json", "X-Call": "${callInfo.callSid}"}"#;

/// Describes the sizes of calls and templates.
pub fn describe() -> String {
    let [small, large] = [Size::Small, Size::Large].map(|size| {
        let calls = all_of(size);
        calls.iter().map(String::len).sum::<usize>() / calls.len()
    });
    format!(
        "calls of {small} bytes on average (large ones {large}), {AGENTS} agents with one action each, templates of {} bytes",
        BODY.len()
    )
}

/// The body of the example action.
pub const BODY: &str = r#"{
  "caller": "${callInfo.from}",
  "callee": "${callInfo.to}",
  "callType": "${callInfo.type}",
  "summary": "${analysis.results.summary}",
  "duration": ${duration},
  "price": ${price},
  "recordingUrl": "${callInfo.recording}",
  "leadId": "${context.leadId}",
  "disposition": "${outcome}"
}"#;

const LINES: [&str; 8] = [
    "Good morning, am I speaking with Aditi? This is the site office about the flats in Whitefield.",
    "Yes, speaking. I saw the advertisement, but I would like to know \"the real price\" first.",
    "Of course. The two-bedroom flats start at seventy-five lakh, parking and registration included.",
    "अच्छा, और क्या शनिवार को देखना संभव है?",
    "Saturday at eleven is free. Shall I send you the location by message to this number?",
    "Please do. Müller & Söhne told me the road is closed – is that so?",
    "Only until Friday, the metro's crossing is being finished. From Saturday on it is open again.",
    "Then see you at eleven. Thank you, good-bye!",
];

fn call(index: usize, rounds: usize) -> Value {
    let turns = LINES.len() * rounds;
    let begin = 1_722_576_050_000_u64 + 60_000 * index as u64;
    let turn = |(place, line): (usize, &&str)| {
        let role = if place.is_multiple_of(2) { "assistant" } else { "user" };
        json!({ "role": role, "content": line, "timestamp": begin + 3_250 * place as u64 })
    };
    json!({
        "analysis": { "results": {
            "summary": "Aditi asked about the 2BHK in Whitefield.\nShe agreed to a \"site visit\" on Saturday at 11 AM.",
            "budget": 7_500_000 + index,
            "interested": index.is_multiple_of(2),
            "callbackTime": null,
            "visit": { "day": "Saturday", "slot": "11 AM" },
            "topics": ["price", "location", "possession date"],
        } },
        "callInfo": {
            "from": format!("+1555010{:04}", index),
            "to": "+15550100099",
            "type": "inbound",
            "recording": format!("https://recordings.example.com/c/{SID}.mp3?sig=a%2Bb&exp=1722579650"),
            "callSid": SID,
            "endReason": "user_hangup",
            "provider": "twilio",
        },
        "outcome": "qualified_lead",
        "agent": agent(index),
        "duration": 20 + index,
        "price": 0.25,
        "beginTimestamp": begin,
        "context": { "leadId": format!("L-{index}"), "Order ID": "ORD 77/B", "is-vip": false },
        "stats": { "latency": { "llm": 754, "tts": 212.5 }, "turns": turns },
        "transcript": LINES.iter().cycle().take(turns).enumerate().map(turn).collect::<Vec<_>>(),
    })
}
