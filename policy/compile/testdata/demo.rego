# Made by `omega policy compile` for platform "demo". Do not edit.
# What no permit allows is denied.
package omega

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
} else := ["the policy has no rules for this agent"]

# No agent has this name. With it the tables exist in every policy.
permit["(nobody)"]["(nothing)"]["(nowhere)"] contains ["", []] if false

ask["(nobody)"]["(nothing)"]["(nowhere)"] contains "" if false

why["(nobody)"]["(nothing)"]["(nowhere)"] contains "" if false

advice["(nobody)"]["(nothing)"]["(nowhere)"] contains "" if false

may["(nobody)"] := "" if false

# For reasons: who influenced the instance, and who may know what it has read.
untrusted_sources := substring(
	concat(", ", sort({source |
		some label in input.state.labels
		startswith(label, "untrusted:")
		source := trim_prefix(label, "untrusted:")
	})),
	0, 200,
)

known_to := substring(
	concat("; ", sort({readers |
		some label in input.state.labels
		startswith(label, "readers:")
		readers := trim_prefix(label, "readers:")
	})),
	0, 200,
)

# under is met by a path inside of a folder that every reader takes for the same
# one: no part of dots and spaces alone, no "//", percent escape, backslash,
# control character, or character that looks like a dot, slash or percent.
under(value, folder) if {
	is_string(value)
	startswith(concat("", [value, "/"]), folder)
	plain(value)
}

plain(value) if {
	regex.match("^/?[ -$&-.0-\\[\\]-~]*[!-$&-\\-0-\\[\\]-~][ -$&-.0-\\[\\]-~]*(?:/[ -$&-.0-\\[\\]-~]*[!-$&-\\-0-\\[\\]-~][ -$&-.0-\\[\\]-~]*)*/?$", value)
} else if {
	regex.match(`^/?[^/\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}]*[^/. \x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}][^/\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}]*(?:/[^/\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}]*[^/. \x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}][^/\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}]*)*/?$`, value)
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
	trim_left(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?@!$&'()*+,;=%") == ""
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

# The document alone made this policy, so every decision ends by itself.
bounded := true

# Agent reporter.
may.reporter := "this agent may not use this; permitted are: files/read_file, mail/send, scripted"

all_reporter := true

# read-public: reporter may use mcp.tools/call on files/read_file.
permit.reporter["mcp.tools/call"]["files/read_file"] contains ["read-public", ["untrusted:files/read_file"]] if {
	met_read_public
	flow(["public"])
}

met_read_public if {
	all_reporter
	is_object(input.args)
	every name, value in input.args { arg_read_public(name, value) }
	"path" in object.keys(input.args)
	held("read-public")
}

# argument "path" must be a plain path under /data/public, without "..", "//", % or backslash
arg_read_public(name, value) if {
	name == "path"
	is_read_public_1(value)
}

is_read_public_1(value) if {
	is_string(value)
	under(value, "/data/public/")
}

why_read_public contains "argument \"path\" must be a plain path under /data/public, without \"..\", \"//\", % or backslash" if {
	some value in [value | value := input.args.path]
	not arg_read_public("path", value)
}

why_read_public contains "argument \"path\" is missing" if not "path" in object.keys(input.args)

why_read_public contains text if {
	some name in object.keys(input.args)
	not name in {"path"}
	text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])
}

why_read_public contains "rule read-public was taken away from this instance; only an approval gives it back" if not held("read-public")

why_read_public contains "the agent's calls of all kinds are used up, or too many at a time" if not all_reporter

why.reporter["mcp.tools/call"]["files/read_file"] contains text if some text in why_read_public

why.reporter["mcp.tools/call"]["files/read_file"] contains concat("", ["what is sent there is read by \"public\", and this agent has read what is only for ", known_to]) if not flow(["public"])

advice.reporter["mcp.tools/call"]["files/read_file"] contains "instead: read the report under /data/public"

# send-inside: reporter may use mcp.tools/call on mail/send.
permit.reporter["mcp.tools/call"]["mail/send"] contains ["send-inside", ["untrusted:mail/send"]] if {
	met_send_inside
	flow(["public"])
}

met_send_inside if {
	all_reporter
	is_object(input.args)
	every name, value in input.args { arg_send_inside(name, value) }
	"body" in object.keys(input.args)
	"subject" in object.keys(input.args)
	"to" in object.keys(input.args)
	held("send-inside")
	calls_left("send-inside", 2)
}

# argument "body" must be text, at most 4000 characters
arg_send_inside(name, value) if {
	name == "body"
	is_send_inside_1(value)
}

is_send_inside_1(value) if {
	is_string(value)
	count(value) <= 4000
}

# argument "subject" must be text, at most 120 characters
arg_send_inside(name, value) if {
	name == "subject"
	is_send_inside_2(value)
}

is_send_inside_2(value) if {
	is_string(value)
	count(value) <= 120
}

# argument "to" must be a list, at most 3 elements, each text, matching [a-z.]+@acme\.example
arg_send_inside(name, value) if {
	name == "to"
	is_send_inside_3(value)
}

is_send_inside_3(value) if {
	is_array(value)
	count(value) <= 3
	every element in value { is_send_inside_3_each(element) }
}

is_send_inside_3_each(value) if {
	is_string(value)
	regex.match("^(?:[a-z.]+@acme\\.example)$", value)
}

# argument "urgent" must be true or false
arg_send_inside(name, value) if {
	name == "urgent"
	is_send_inside_4(value)
}

is_send_inside_4(value) if {
	is_boolean(value)
}

why_send_inside contains "argument \"body\" must be text, at most 4000 characters" if {
	some value in [value | value := input.args.body]
	not arg_send_inside("body", value)
}

why_send_inside contains "argument \"subject\" must be text, at most 120 characters" if {
	some value in [value | value := input.args.subject]
	not arg_send_inside("subject", value)
}

why_send_inside contains "argument \"to\" must be a list, at most 3 elements, each text, matching [a-z.]+@acme\\.example" if {
	some value in [value | value := input.args.to]
	not arg_send_inside("to", value)
}

why_send_inside contains "argument \"urgent\" must be true or false" if {
	some value in [value | value := input.args.urgent]
	not arg_send_inside("urgent", value)
}

why_send_inside contains "argument \"body\" is missing" if not "body" in object.keys(input.args)

why_send_inside contains "argument \"subject\" is missing" if not "subject" in object.keys(input.args)

why_send_inside contains "argument \"to\" is missing" if not "to" in object.keys(input.args)

why_send_inside contains text if {
	some name in object.keys(input.args)
	not name in {"body", "subject", "to", "urgent"}
	text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])
}

why_send_inside contains "rule send-inside was taken away from this instance; only an approval gives it back" if not held("send-inside")

why_send_inside contains "the limit of 2 calls is used up (rule send-inside)" if not calls_left("send-inside", 2)

why_send_inside contains "the agent's calls of all kinds are used up, or too many at a time" if not all_reporter

why.reporter["mcp.tools/call"]["mail/send"] contains text if some text in why_send_inside

why.reporter["mcp.tools/call"]["mail/send"] contains concat("", ["what is sent there is read by \"public\", and this agent has read what is only for ", known_to]) if not flow(["public"])

advice.reporter["mcp.tools/call"]["mail/send"] contains "instead: write to colleagues at acme.example only"

# think: reporter may use llm.chat on scripted.
permit.reporter["llm.chat"].scripted contains ["think", ["untrusted:scripted"]] if {
	met_think
	flow(["public"])
}

met_think if {
	all_reporter
	is_object(input.args)
	every name, value in input.args { arg_think(name, value) }
	held("think")
	calls_left("think", 50)
}

# stated by the gateway, and not constrained here
arg_think(name, _) if name in {"max_tokens", "messages", "request_bytes", "request_sha256", "stream", "tools", "engine_bundle", "engine_model", "engine_adapters"}

why_think contains text if {
	some name in object.keys(input.args)
	not name in {"max_tokens", "messages", "request_bytes", "request_sha256", "stream", "tools", "engine_bundle", "engine_model", "engine_adapters"}
	text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])
}

why_think contains "rule think was taken away from this instance; only an approval gives it back" if not held("think")

why_think contains "the limit of 50 calls is used up (rule think)" if not calls_left("think", 50)

why_think contains "the agent's calls of all kinds are used up, or too many at a time" if not all_reporter

why.reporter["llm.chat"].scripted contains text if some text in why_think

why.reporter["llm.chat"].scripted contains concat("", ["what is sent there is read by \"public\", and this agent has read what is only for ", known_to]) if not flow(["public"])

advice.reporter["llm.chat"].scripted contains "" if false

# reporter has mcp.tools/list of files by itself, since it may use something of it.
permit.reporter["mcp.tools/list"].files contains ["list:files", []] if {
	input.args == {}
	all_reporter
}

# reporter has mcp.session/listen of files by itself, since it may use something of it.
permit.reporter["mcp.session/listen"].files contains ["listen:files", []] if {
	input.args == {}
	all_reporter
}

# reporter has mcp.session/end of files by itself, since it may use something of it.
permit.reporter["mcp.session/end"].files contains ["end:files", []] if {
	input.args == {}
	all_reporter
}

# reporter has mcp.tools/list of mail by itself, since it may use something of it.
permit.reporter["mcp.tools/list"].mail contains ["list:mail", []] if {
	input.args == {}
	all_reporter
}

# reporter has mcp.session/listen of mail by itself, since it may use something of it.
permit.reporter["mcp.session/listen"].mail contains ["listen:mail", []] if {
	input.args == {}
	all_reporter
}

# reporter has mcp.session/end of mail by itself, since it may use something of it.
permit.reporter["mcp.session/end"].mail contains ["end:mail", []] if {
	input.args == {}
	all_reporter
}

# A caller's request to reporter; who may call is decided before.
permit.reporter["agent.invoke"].reporter contains ["invoke", []]

# The answer of reporter to a caller.
permit.reporter["agent.answer"].reporter contains ["answer:caller", []] if recipients_may_know(input.args.caller)

why.reporter["agent.answer"].reporter contains concat("", ["the caller may not know what this agent has read; that is for ", known_to]) if not recipients_may_know(input.args.caller)

advice.reporter["agent.answer"].reporter contains "" if false
