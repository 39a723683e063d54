// The coordinator's part inside opencode: it decides what a shell of an agent sees, and has the last word on permissions.
// Loaded once for each worktree. What it is to do stands in coordinator.json beside opencode.json.
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

// Of two lists what both name, if it is one of what is allowed; else what either names.
const joinLists = (key, theirs, ours) =>
  key === "enabled_providers" || key === "whitelist"
    ? theirs.filter((one) => ours.includes(one))
    : [...new Set([...theirs, ...ours])]

// `ours` over `theirs`, but what they refuse stays refused. `{env:NAME}` is filled in, as opencode does in files.
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

// opencode 1.18 reads configuration a second time, for what will be its next version, and there imports whatever plugins
// a worktree has, whatever the switches say. Such a file is empty for this process from here on.
globalThis.Bun?.plugin?.({
  name: "coordinator",
  setup: (build) => build.onLoad({ filter: /[\\/]\.worktrees[\\/]/ }, () => ({ contents: "export {}", loader: "js" })),
})

export const Coordinator = async ({ directory }) => ({
  config: async (config) => {
    const { agents, permission, fixed, beside, seen } = plan()
    if (!fixed) return
    config.username = "coordinator" // By this the coordinator sees that its part was loaded.
    for (const [key, value] of Object.entries(beside)) config[key] = overlay(key, config[key], value)
    Object.assign(config, fixed)
    if (seen) {
      const found = Object.entries(config.agent ?? {}).map(([name, { permission, disable }]) => [name, { permission, disable }])
      writeFileSync(place(seen), JSON.stringify({ permission: config.permission, agents: Object.fromEntries(found) }), { mode: 0o600 })
      return // The files of the run refuse everything until the coordinator has read this.
    }
    config.permission = permission
    // Of an agent that came after the coordinator looked nobody knows what it may do.
    for (const [name, agent] of Object.entries(config.agent ?? {}))
      agent.permission = Object.hasOwn(agents, name) ? agents[name] : { "*": "deny" }
  },
  // Read anew for each shell, because a turn has variables of its own. `undefined` takes a variable away.
  "shell.env": async (_input, output) => {
    const { shells, keep, always } = plan()
    const file = shells && join(shells, createHash("sha256").update(directory).digest("hex") + ".json")
    const wanted = file && read(file)
    const kept = new Set(wanted ? [...Object.keys(wanted), ...always] : (keep ?? ["PATH", "HOME"]))
    for (const name of Object.keys(process.env)) if (!kept.has(name)) output.env[name] = undefined
    if (wanted) Object.assign(output.env, wanted)
  },
})
