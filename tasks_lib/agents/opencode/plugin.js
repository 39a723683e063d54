// Coordinator's plugin for opencode: decides which environment an agent's shell gets, and sets the final permissions.
// Loaded once for each worktree. Its instructions are in coordinator.json, next to opencode.json.
import { createHash } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const read = (path) => {
  try {
    return JSON.parse(readFileSync(path, "utf8"))
  } catch {
    return undefined
  }
}

const place = (name) => join(process.env.OPENCODE_CONFIG_DIR ?? "", name)
const plan = () => read(place("coordinator.json")) ?? {}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value)

// For lists of what is allowed, what both contain; for other lists, what either contains.
const joinLists = (key, theirs, ours) =>
  key === "enabled_providers" || key === "whitelist"
    ? theirs.filter((one) => ours.includes(one))
    : [...new Set([...theirs, ...ours])]

// Merges `ours` over `theirs`, but what they refuse stays refused. Replaces `{env:NAME}`, as opencode does in files.
const overlay = (key, theirs, ours) => {
  if (typeof ours === "string") return ours.replace(/\{env:([^}]+)\}/g, (_, name) => process.env[name] ?? "")
  if (Array.isArray(ours)) return Array.isArray(theirs) ? joinLists(key, theirs, ours) : ours
  if (isObject(ours) && theirs !== false) {
    const all = isObject(theirs) ? { ...theirs } : {}
    for (const [name, value] of Object.entries(ours)) all[name] = overlay(name, all[name], value)
    return all
  }
  const isRefusal = key === "disabled" ? theirs === true : theirs === false
  return isRefusal ? theirs : ours
}

// opencode 1.18 reads configuration a second time, for its next version, and then imports any plugins in a worktree,
// whatever the switches say. From here on, this process loads those files as empty modules.
globalThis.Bun?.plugin?.({
  name: "coordinator",
  setup: (build) => build.onLoad({ filter: /[\\/]\.worktrees[\\/]/ }, () => ({ contents: "export {}", loader: "js" })),
})

export const Coordinator = async ({ directory }) => ({
  config: async (config) => {
    const { agents, permission, fixed, beside, seen } = plan()
    if (!fixed) return
    config.username = "coordinator" // Tells the coordinator that this plugin was loaded.
    for (const [key, value] of Object.entries(beside)) config[key] = overlay(key, config[key], value)
    Object.assign(config, fixed)
    if (seen) {
      const found = Object.entries(config.agent ?? {}).map(([name, { permission, disable }]) => [name, { permission, disable }])
      writeFileSync(place(seen), JSON.stringify({ permission: config.permission, agents: Object.fromEntries(found) }), { mode: 0o600 })
      return // The run's files refuse everything until the coordinator has read this.
    }
    config.permission = permission
    // An agent that was added after the coordinator read the configuration is denied everything.
    for (const [name, agent] of Object.entries(config.agent ?? {}))
      agent.permission = Object.hasOwn(agents, name) ? agents[name] : { "*": "deny" }
  },
  // Read again for each shell, because variables change with each turn. `undefined` removes a variable.
  "shell.env": async (_input, output) => {
    const { shells, keep, always } = plan()
    const file = shells && join(shells, createHash("sha256").update(directory).digest("hex") + ".json")
    const wanted = file && read(file)
    const kept = new Set(wanted ? [...Object.keys(wanted), ...always] : (keep ?? ["PATH", "HOME"]))
    for (const name of Object.keys(process.env)) if (!kept.has(name)) output.env[name] = undefined
    if (wanted) Object.assign(output.env, wanted)
  },
})
