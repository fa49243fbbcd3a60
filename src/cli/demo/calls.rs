//! The demo's calls, similar to real ones: several languages, quotes and line breaks in summaries, inbound and
//! outbound, values of every type. The phone numbers are from the ranges reserved for fiction.

use serde_json::{Value, json};

use super::actions::{EXAMPLE_AGENT, MISSPELT_AGENT, OFF_AGENT, PAUSED_AGENT};
use crate::store::platform::Close;

/// A call that the simulated platform completes.
pub(super) struct PretendCall {
    pub(super) agent: &'static str,
    pub(super) sid: String,
    pub(super) seconds: i32,
    pub(super) json: String,
    pub(super) close: Close,
}

/// The content and the outcome of a conversation.
struct Conversation {
    direction: &'static str,
    summary: &'static str,
    outcome: &'static str,
    lines: [&'static str; 2],
}

const CONVERSATIONS: [Conversation; 6] = [
    Conversation {
        direction: "inbound",
        summary: "Aditi asked about the 2BHK in Whitefield and agreed to a site visit on Saturday at 11 AM.",
        outcome: "qualified_lead",
        lines: ["Good morning, am I speaking with Aditi?", "Yes, speaking."],
    },
    Conversation {
        direction: "outbound",
        summary: "She said \"call me after six\".\nThen she hung up.\tNo complaint.",
        outcome: "callback",
        lines: ["Hello, this is the clinic about your appointment.", "I'm driving – call me \"after six\", will you?"],
    },
    Conversation {
        direction: "inbound",
        summary: "अदिति ने शनिवार की मुलाक़ात की पुष्टि की 😀",
        outcome: "confirmed",
        lines: ["नमस्ते, क्या मैं अदिति जी से बात कर रहा हूँ?", "जी हाँ, बोल रही हूँ।"],
    },
    Conversation {
        direction: "outbound",
        summary: "Müller bestätigt 4.500 € bis Freitag; Konto C:\\Kunden\\Müller prüfen.",
        outcome: "promise_to_pay",
        lines: ["Guten Tag, spreche ich mit Herrn Müller?", "Ja, worum geht's?"],
    },
    Conversation {
        direction: "inbound",
        summary: "お客様は配達日の変更を希望。${outcome} はそのまま。",
        outcome: "rescheduled",
        lines: ["お電話ありがとうございます。", "配達日を変えたいのですが。"],
    },
    Conversation {
        direction: "inbound",
        summary: "العميلة طلبت إعادة الاتصال غدًا.",
        outcome: "voicemail",
        lines: ["مرحبا، كيف أساعدك؟", "أتصل لاحقًا."],
    },
];

/// Every agent of the demo, and its number of calls.
const AGENTS: [(&str, usize); 9] = [
    (EXAMPLE_AGENT, 12),
    ("agent_helpdesk", 4),
    ("agent_moved", 2),
    ("agent_typo", 2),
    ("agent_down", 2),
    ("agent_slow", 3),
    (PAUSED_AGENT, 2),
    (OFF_AGENT, 1),
    (MISSPELT_AGENT, 1),
];

/// All calls; every fifth is rolled back.
pub(super) fn all() -> Vec<PretendCall> {
    let agents = AGENTS.iter().flat_map(|(agent, count)| std::iter::repeat_n(*agent, *count));
    agents.enumerate().map(|(index, agent)| pretend_call(index, agent)).collect()
}

fn pretend_call(index: usize, agent: &'static str) -> PretendCall {
    let conversation = &CONVERSATIONS[index % CONVERSATIONS.len()];
    let sid = format!("CA{index:032x}");
    let seconds = 20 + 7 * i32::try_from(index).unwrap_or(0);
    let close = if index % 5 == 4 { Close::RollBack } else { Close::Commit };
    let json = call_object(index, agent, conversation, &sid, seconds).to_string();
    PretendCall { agent, sid, seconds, json, close }
}

fn call_object(index: usize, agent: &str, conversation: &Conversation, sid: &str, seconds: i32) -> Value {
    let begin = 1_722_576_050_000_u64 + 60_000 * index as u64;
    let (from, to) = (format!("+155501001{index:02}"), "+15550100099");
    let turn = |role, line, after| json!({ "role": role, "content": line, "timestamp": begin + after });
    json!({
        "analysis": { "results": {
            "summary": conversation.summary,
            "budget": 7_500_000,
            "interested": index.is_multiple_of(2),
            "callbackTime": null,
            "visit": { "day": "Saturday", "slot": "11 AM" },
            "topics": ["price", "location", "possession date"],
        } },
        "callInfo": {
            "from": from,
            "to": to,
            "type": conversation.direction,
            "recording": format!("https://recordings.example.com/c/{sid}.mp3?sig=a%2Bb&exp=1722579650"),
            "callSid": sid,
            "endReason": "user_hangup",
            "provider": "twilio",
        },
        "outcome": conversation.outcome,
        "agent": agent,
        "duration": seconds,
        "price": 0.25,
        "beginTimestamp": begin,
        "context": { "leadId": format!("L-{}", 1001 + index), "Order ID": "ORD 77/B", "is-vip": false },
        "stats": { "latency": { "llm": 754, "tts": 212.5 }, "turns": 2 },
        "transcript": [turn("assistant", conversation.lines[0], 0), turn("user", conversation.lines[1], 3_250)],
    })
}
