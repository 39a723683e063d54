// The coordinator's part inside opencode: it decides what a shell of an agent sees, and has the last word on permissions.
// Loaded once for each worktree. What it is to do stands in coordinator.json beside opencode.json.
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"

const read = (path) => {
  try {
    return JSON.parse(readFileSync(path, "utf8"))
  } catch {
    return undefined
  }
}

const plan = () => read(join(process.env.OPENCODE_CONFIG_DIR ?? "", "coordinator.json")) ?? {}

// The rules of `section` that refuse something.
const refusals = (section) =>
  Object.entries(section ?? {}).flatMap(([permission, value]) =>
    Object.entries(typeof value === "string" ? { "*": value } : value)
      .filter(([, action]) => action !== "allow")
      .map(([pattern, action]) => [permission, pattern, action]),
  )

// An agent that is not the coordinator's keeps its own rules, and after them comes whatever the policy refuses.
const restrain = (section, policy) => {
  const own = typeof section === "string" ? { "*": section } : { ...section }
  for (const [permission, pattern, action] of refusals(policy)) {
    const patterns = typeof own[permission] === "string" ? { "*": own[permission] } : { ...own[permission] }
    delete patterns[pattern]
    delete own[permission]
    const all = { ...patterns, [pattern]: action }
    // Some permissions take one word and nothing else.
    own[permission] = Object.keys(all).length === 1 && all["*"] ? all["*"] : all
  }
  return own
}

export const Coordinator = async ({ directory }) => ({
  config: async (config) => {
    const { permission, agents } = plan()
    if (!permission) return
    config.username = "coordinator" // By this the coordinator sees that its part was loaded.
    config.permission = permission
    for (const [name, agent] of Object.entries(config.agent ?? {})) {
      if (Object.hasOwn(agents, name)) agent.permission = agents[name]
      else if (agent.permission) agent.permission = restrain(agent.permission, permission)
    }
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
