//! The prompt that teaches coordination, and what the server says of itself to an agent.

use super::message::{Message, text};
use super::rpc::{Code, RpcError};
use super::shape;
use crate::api::json::{Kind, write_string};

/// What hosts show an agent before any tool.
pub(super) const INSTRUCTIONS: &str = "Flux is a world state that agents and programs share: \
entities with properties, ids like board/task-7. flux_list and flux_get read it; flux_publish \
changes it, with expect so that two agents never take the same thing; flux_wait_for waits for \
others; flux_diff_since tells what you missed. A refusal has a code; precondition_failed brings \
the entity as it is now. Keep the cursor of the last result.";

/// The members of `prompts/list`.
pub(super) const PROMPTS: &str = r#""prompts":[{"name":"flux_coordinate","title":"Work together through Flux","description":"How to claim, count, keep leases and hand over with the flux tools","arguments":[{"name":"goal","description":"What is to be done together","required":false}]}],"#;

const TEXT: &str = "You share a world state with other agents through the flux tools. Work so:

1. Look: flux_list with a prefix and a filter, e.g. prefix \"board/\", filter eq(status,\"open\"), \
fields [\"status\",\"title\"]. Keep the cursor.
2. Claim one thing before you work on it: flux_publish with id, properties \
{\"status\":\"claimed\",\"owner\":\"<you>\"} and expect {\"properties\":{\"status\":\"open\"}}. If it is \
refused with precondition_failed, another agent was first: the refusal holds the entity as it is; \
take another one.
3. If you may die on the way, hold a lease: flux_publish of <id>-lease with properties \
{\"owner\":\"<you>\"}, expect {\"absent\":true}, ttl 60; renew it with ttl and expect \
{\"properties\":{\"owner\":\"<you>\"}} before it ends. An absent lease means that the work is free.
4. Count with increment {\"done\":1}, never by reading and writing back.
5. Finish: flux_publish with properties {\"status\":\"done\",\"result\":…} and expect \
{\"properties\":{\"owner\":\"<you>\"}}. Give an event_id, so that you can repeat a call whose answer was \
lost: it counts once.
6. Wait with flux_wait_for instead of asking again and again; timed_out is normal: call it again \
with its cursor as since.
7. When you come back later: flux_diff_since with your last cursor.";

/// Writes the members of the result of `prompts/get`.
///
/// # Errors
/// If there is no such prompt, or an argument is none.
pub(super) fn get(message: &Message<'_>) -> Result<Vec<u8>, RpcError> {
    let refuse = |text: &str| RpcError::new(Code::Params, text).answered();
    let name = text(message.params.name.as_ref());
    if name.as_deref() != Some("flux_coordinate") {
        return Err(refuse("unknown prompt; there is `flux_coordinate`"));
    }
    let mut told = TEXT.to_owned();
    let arguments = message.params.arguments.as_ref();
    if let Some(arguments) = arguments.filter(|it| it.kind != Kind::Null) {
        let goal = shape::members(arguments.text);
        let goal = goal.map_err(|error| refuse(&format!("`arguments`: {error}")))?;
        // Of a name that comes again the last one counts, as everywhere.
        if let Some((_, value)) = goal.iter().rfind(|(name, _)| name == "goal") {
            let goal = text(Some(value)).ok_or_else(|| refuse("`goal` must be a string"))?;
            told.push_str("\n\nThe goal: ");
            told.push_str(&goal);
        }
    }
    let mut out = Vec::from(
        &br#""description":"How to work together through Flux","messages":[{"role":"user","content":{"type":"text","text":"#[..],
    );
    write_string(&mut out, &told);
    out.extend_from_slice(b"}}],");
    Ok(out)
}
