package compile

// prelude is the part that is the same in every policy. Permits are built of
// positive conditions only: a condition that errors or is undefined is not met,
// so it can only deny. `not` occurs in reasons alone, on which nothing depends.
const prelude = `
# The answer. Undefined, [] and errors are denials to every caller. The tables
# permit, ask, why and advice are read at one place: agent, action, resource.
default decision := {"decision": "deny", "rule": "", "reasons": ["the policy does not decide this call"], "labels": []}

decision := {"decision": "permit", "rule": first[0], "reasons": [], "labels": first[1]} if {
	agent := input.agent.name
	action := input.action
	resource := input.resource
	found := data.omega.permit[agent][action][resource]
	first := min(found)
} else := {"decision": "deny", "rule": "", "reasons": reasons, "labels": [], "approval": asked} if {
	agent := input.agent.name
	action := input.action
	resource := input.resource
	asked := min(data.omega.ask[agent][action][resource])
} else := {"decision": "deny", "rule": "", "reasons": reasons, "labels": []}

reasons := array.concat(sort(texts), sort(more)) if {
	agent := input.agent.name
	action := input.action
	resource := input.resource
	texts := data.omega.why[agent][action][resource]
	count(texts) > 0 # there is none where an argument that they look at is missing
	more := data.omega.advice[agent][action][resource]
} else := [text] if {
	agent := input.agent.name
	text := data.omega.may[agent]
} else := ["` + unknownAgent + `"]

# No agent has this name. With it the tables exist in every policy.
permit["(nobody)"]["(nothing)"]["(nowhere)"] contains ["", []] if false

ask["(nobody)"]["(nothing)"]["(nowhere)"] contains "" if false

why["(nobody)"]["(nothing)"]["(nowhere)"] contains "" if false

advice["(nobody)"]["(nothing)"]["(nowhere)"] contains "" if false

may["(nobody)"] := "" if false

# For reasons: who influenced the instance, and who may know what it has read.
untrusted_sources := substring(concat(", ", sort({source |
	some label in input.state.labels
	startswith(label, "untrusted:")
	source := trim_prefix(label, "untrusted:")
})), 0, 200)

known_to := substring(concat("; ", sort({readers |
	some label in input.state.labels
	startswith(label, "readers:")
	readers := trim_prefix(label, "readers:")
})), 0, 200)

# under is met by a path inside of a folder that every reader takes for the same
# one: no part of dots and spaces alone, no "//", percent escape, backslash,
# control character, or character that looks like a dot, slash or percent.
under(value, folder) if {
	is_string(value)
	startswith(concat("", [value, "/"]), folder)
	plain(value)
}

plain(value) if {
	regex.match("` + asciiPath + `", value)
} else if {
	regex.match(` + "`" + plainPath + "`" + `, value)
}

# calls_left is met while a rule was used less often than its limit; the others
# are the same for one session, for a stretch of time, and for a budget.
calls_left(rule, limit) if {
	used := object.get(input.state.counts, rule, 0)
	is_number(used)
	used >= 0
	used < limit
}

session_left(rule, limit) if {
	used := object.get(object.get(input.state, "session_counts", {}), rule, 0)
	is_number(used)
	used >= 0
	used < limit
}

rate_left(rule, calls) if {
	used := object.get(object.get(input.state, "rates", {}), rule, 0)
	is_number(used)
	used >= 0
	used < calls
}

budget_left(name, charge, limit) if {
	used := object.get(object.get(input.state, "budgets", {}), name, 0)
	amount := input.state.charges[charge]
	used >= 0
	amount >= 0
	used + amount <= limit
}

# trusted_influence is met while no untrusted source has influenced the instance.
trusted_influence if {
	every label in input.state.labels { startswith(label, "readers:") }
}

endorsed(path) if path in object.get(input.state, "endorsed", [])

approved(principal) if principal in object.get(input.state, "approvals", [])

held(rule) if {
	every lost in object.get(input.state, "narrowed", []) { lost != rule }
}

# flow is met when all who read what is sent may know all that the instance has
# read. A label of another form is met by nothing.
flow(readers) if {
	every label in input.state.labels { may_know(label, readers) }
}

may_know(label, _) if startswith(label, "untrusted:")

may_know(label, readers) if {
	startswith(label, "readers:")
	allowed := split(trim_prefix(label, "readers:"), ",")
	every reader in readers { admitted(reader, allowed) }
}

admitted(reader, allowed) if reader in allowed

admitted(reader, allowed) if {
	some pattern in allowed
	startswith(pattern, "*")
	endswith(reader, trim_prefix(pattern, "*"))
}

recipients_may_know(_) if {
	every label in input.state.labels { startswith(label, "untrusted:") }
}

recipients_may_know(value) if {
	list := recipients(value)
	count(list) <= 100
	every recipient in list { is_reader(recipient) }
	flow(list)
}

# recipients are those of a list, or of a text with commas or semicolons. More
# than a hundred meet nothing, so that labels times recipients stay few.
recipients(value) := [recipient |
	some part in split(replace(lower(value), ";", ","), ",")
	recipient := trim_space(part)
] if is_string(value)

recipients(value) := [recipient | some part in value; recipient := trim_space(lower(part))] if {
	is_array(value)
	every part in value { is_string(part) }
}

# is_reader is met by a name or one plain mail address: nothing that a mail
# program would take for two, or for another.
is_reader(text) if {
	text != ""
	trim_left(text, "abcdefghijklmnopqrstuvwxyz0123456789.@_+-") == ""
	count(split(text, "@")) <= 2
}

is_address(text, domains) if {
	is_string(text)
	is_reader(lower(text))
	parts := split(lower(text), "@")
	count(parts) == 2
	parts[0] != ""
	host_in(parts[1], domains)
}

is_host(host) if {
	host != ""
	trim_left(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

host_in(host, hosts) if {
	is_host(host)
	host in hosts
}

host_in(host, hosts) if {
	is_host(host)
	some pattern in hosts
	startswith(pattern, "*.")
	suffix := trim_prefix(pattern, "*")
	endswith(host, suffix)
	count(host) > count(suffix)
}

# url gives the parts of a URL that every reader takes apart in the same way:
# no user, no fragment, no control character, space, backslash or quote.
url(value) := {"scheme": lower(head[0]), "host": lower(names[0]), "port": port, "path": path, "query": query} if {
	is_string(value)
	trim_left(value, "` + urlASCII + `") == ""
	head := split(value, "://")
	count(head) == 2
	tail := split(head[1], "?")
	count(tail) <= 2
	query := concat("", array.slice(tail, 1, 2))
	authority := split(tail[0], "/")[0]
	path := substring(tail[0], count(authority), -1)
	trim_suffix(authority, ":") == authority
	names := split(authority, ":")
	count(names) <= 2
	port := concat("", array.slice(names, 1, 2))
	is_host(lower(names[0]))
}
`

// urlASCII is what RFC 3986 allows in a URL without the fragment's sign and
// the brackets of IPv6 literals.
const urlASCII = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?@!$&'()*+,;=%"

// oddRunes are C0 controls, DEL, percent, backslash, C1 controls, the invisible
// format characters and line separators, two slashes and a backslash of
// mathematics, and every character that a compatibility form (NFKC, NFKD)
// turns into text with a dot, slash, backslash or percent (Unicode TR 36,
// section 2; the list is of Unicode 16).
const oddRunes = `\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}` +
	`\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}`

// asciiPath is the same form for ASCII alone. Nearly every path is one, and the
// small pattern is matched many times faster.
const asciiPath = `^/?` + asciiPart + `(?:/` + asciiPart + `)*/?$`

const asciiPart = `[ -$&-.0-\\[\\]-~]*[!-$&-\\-0-\\[\\]-~][ -$&-.0-\\[\\]-~]*`

// plainPart is a part of a path with at least one rune that is neither dot nor space.
const plainPart = `[^/` + oddRunes + `]*[^/. ` + oddRunes + `][^/` + oddRunes + `]*`

// plainPath is one pattern for all policies' paths, so that it stays compiled.
const plainPath = `^/?` + plainPart + `(?:/` + plainPart + `)*/?$`
