-- Health of Stint's kinds for Argo CD, for the key "stint.dev/*" of `resource.customizations` in argocd-cm.
-- docs/lifecycle.md says what each state becomes; a test runs this file on each of them.
local status = obj.status
if status == nil or status.conditions == nil then
  return {status = "Progressing", message = "Stint has not looked at it yet"}
end
local seen = status.observedGeneration
if seen ~= nil and obj.metadata.generation ~= nil and seen ~= obj.metadata.generation then
  return {status = "Progressing", message = "Stint has not seen the latest change yet"}
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function is_true(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end
local ready = conditions.Ready
if ready == nil then
  return {status = "Progressing", message = "Stint has not looked at it yet"}
end

local health = "Progressing"
if is_true("Stalled") then
  health = "Degraded" -- refused
elseif is_true("Reconciling") then
  health = "Progressing" -- waiting
elseif ready.reason == "Suspended" then
  health = "Suspended" -- a policy's kill switch: the policy itself, and what it ended
elseif status.endReason == "IdentityChanged" or status.endReason == "PolicyWithdrawn"
  or status.endReason == "Drifted" then
  health = "Degraded" -- taken away before its end
elseif ready.status == "True" then
  health = "Healthy" -- active, or ended as planned
elseif obj.kind == "AccessPolicy" then
  health = "Degraded" -- cannot be used
end
return {status = health, message = ready.message}
