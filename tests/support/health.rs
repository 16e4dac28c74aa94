//! What tools that wait for objects make of a status: kstatus by its rules, Argo CD by the script that the chart ships.

use crate::project;
use mlua::{Lua, LuaOptions, StdLib, Table};
use serde_json::Value;

/// `status.Compute` of `sigs.k8s.io/cli-utils/pkg/kstatus` for a custom resource: deletion, then the generation, then
/// `Reconciling` and `Stalled` in the order of the list, then `Ready`. What has none of these is Current.
pub fn kstatus(object: Option<&Value>) -> &'static str {
    let Some(object) = object else {
        return "NotFound";
    };
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let (wanted, seen) = (
        &object["metadata"]["generation"],
        &object["status"]["observedGeneration"],
    );
    if wanted.is_i64() && seen.is_i64() && wanted != seen {
        return "InProgress";
    }
    let conditions = || {
        object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
    };
    for condition in conditions().filter(|c| c["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return "InProgress",
            Some("Stalled") => return "Failed",
            _ => {}
        }
    }
    match conditions().find(|c| c["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => "InProgress",
        _ => "Current",
    }
}

/// Health of the object in Argo CD, by the shipped script in Lua 5.1 without libraries, as Argo CD runs it.
pub fn argo_cd(object: &Value) -> (String, String) {
    let lua = Lua::new_with(StdLib::NONE, LuaOptions::default()).unwrap();
    let script = project().join("charts/stint/files/argocd/health.lua");
    let script = std::fs::read_to_string(script).unwrap();
    lua.globals().set("obj", to_lua(&lua, object)).unwrap();
    let health: Table = lua.load(script).eval().unwrap();
    (
        health.get("status").unwrap(),
        health.get("message").unwrap(),
    )
}

fn to_lua(lua: &Lua, value: &Value) -> mlua::Value {
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(on) => mlua::Value::Boolean(*on),
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text).unwrap()),
        Value::Array(items) => {
            let items = items.iter().map(|item| to_lua(lua, item));
            mlua::Value::Table(lua.create_sequence_from(items).unwrap())
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(k, v)| (k.as_str(), to_lua(lua, v)));
            mlua::Value::Table(lua.create_table_from(fields).unwrap())
        }
    }
}
