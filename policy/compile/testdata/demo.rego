# Made by `omega policy compile` for platform "demo". Do not edit.
# What no permit allows is denied.
package omega

# The answer. Undefined, [] and errors are denials to every caller.
default decision := {"decision": "deny", "rule": "", "reasons": ["the policy does not decide this call"], "labels": []}

decision := {"decision": "permit", "rule": min(permits), "reasons": [], "labels": []} if {
	count(permits) > 0
} else := {"decision": "deny", "rule": "", "reasons": array.concat(sort(why), sort(advice)), "labels": []} if {
	count(permits) == 0
}

# under is met by a path inside of a folder that every reader takes for the same
# one: no part of dots and spaces alone, no "//", percent escape, backslash,
# control character, or character that looks like a dot, slash or percent.
under(value, folder) if {
	is_string(value)
	plain(value)
	startswith(concat("", [value, "/"]), concat("", [trim_suffix(folder, "/"), "/"]))
	every part in split(trim_suffix(trim_prefix(value, "/"), "/"), "/") {
		trim_left(part, ". ") != ""
	}
}

plain(value) if {
	trim_left(value, ` !"#$&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}~`) == ""
} else if {
	regex.match(`^[^\x00-\x1f\x7f%\\\x{80}-\x{9f}\p{Cf}\p{Zl}\p{Zp}\x{2024}-\x{2026}\x{2044}\x{2100}\x{2101}\x{2105}\x{2106}\x{2215}\x{2216}\x{2488}-\x{249b}\x{33c2}\x{33c7}\x{33d8}\x{fe19}\x{fe30}\x{fe52}\x{fe68}\x{fe6a}\x{ff05}\x{ff0e}\x{ff0f}\x{ff3c}\x{1f100}]+$`, value)
}

# calls_left is met while the instance has used a rule less often than its limit.
calls_left(rule, limit) if {
	used := object.get(input.state.counts, rule, 0)
	is_number(used)
	used >= 0
	used < limit
}

# The agents of the policy.
agents := ["reporter"]

why contains "the policy has no rules for this agent" if not input.agent.name in agents

# read-public: reporter may use mcp.tools/call on files/read_file.
permits contains "read-public" if {
	near_read_public
	is_object(input.args)
	every name, value in input.args { arg_read_public(name, value) }
	"path" in object.keys(input.args)
}

near_read_public if {
	input.agent.name == "reporter"
	input.action == "mcp.tools/call"
	input.resource == "files/read_file"
}

near_any if near_read_public

# argument "path" must be a plain path under /data/public, without "..", "//", % or backslash
arg_read_public(name, value) if {
	name == "path"
	is_read_public_1(value)
}

is_read_public_1(value) if {
	is_string(value)
	under(value, "/data/public")
}

why contains "argument \"path\" must be a plain path under /data/public, without \"..\", \"//\", % or backslash" if {
	near_read_public
	some value in [value | value := input.args.path]
	not arg_read_public("path", value)
}

why contains "argument \"path\" is missing" if {
	near_read_public
	not "path" in object.keys(input.args)
}

why contains text if {
	near_read_public
	some name in object.keys(input.args)
	not name in {"path"}
	text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])
}

advice contains "instead: read the report under /data/public" if near_read_public

# send-inside: reporter may use mcp.tools/call on mail/send.
permits contains "send-inside" if {
	near_send_inside
	is_object(input.args)
	every name, value in input.args { arg_send_inside(name, value) }
	"body" in object.keys(input.args)
	"subject" in object.keys(input.args)
	"to" in object.keys(input.args)
	calls_left("send-inside", 2)
}

near_send_inside if {
	input.agent.name == "reporter"
	input.action == "mcp.tools/call"
	input.resource == "mail/send"
}

near_any if near_send_inside

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

why contains "argument \"body\" must be text, at most 4000 characters" if {
	near_send_inside
	some value in [value | value := input.args.body]
	not arg_send_inside("body", value)
}

why contains "argument \"subject\" must be text, at most 120 characters" if {
	near_send_inside
	some value in [value | value := input.args.subject]
	not arg_send_inside("subject", value)
}

why contains "argument \"to\" must be a list, at most 3 elements, each text, matching [a-z.]+@acme\\.example" if {
	near_send_inside
	some value in [value | value := input.args.to]
	not arg_send_inside("to", value)
}

why contains "argument \"urgent\" must be true or false" if {
	near_send_inside
	some value in [value | value := input.args.urgent]
	not arg_send_inside("urgent", value)
}

why contains "argument \"body\" is missing" if {
	near_send_inside
	not "body" in object.keys(input.args)
}

why contains "argument \"subject\" is missing" if {
	near_send_inside
	not "subject" in object.keys(input.args)
}

why contains "argument \"to\" is missing" if {
	near_send_inside
	not "to" in object.keys(input.args)
}

why contains text if {
	near_send_inside
	some name in object.keys(input.args)
	not name in {"body", "subject", "to", "urgent"}
	text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])
}

why contains "the limit of 2 calls is used up (rule send-inside)" if {
	near_send_inside
	not calls_left("send-inside", 2)
}

advice contains "instead: write to colleagues at acme.example only" if near_send_inside

# think: reporter may use llm.chat on scripted.
permits contains "think" if {
	near_think
	is_object(input.args)
	every name, value in input.args { arg_think(name, value) }
	calls_left("think", 50)
}

near_think if {
	input.agent.name == "reporter"
	input.action == "llm.chat"
	input.resource == "scripted"
}

near_any if near_think

# stated by the gateway, and not constrained here
arg_think(name, _) if name in {"max_tokens", "messages", "request_bytes", "request_sha256", "stream", "tools"}

why contains text if {
	near_think
	some name in object.keys(input.args)
	not name in {"max_tokens", "messages", "request_bytes", "request_sha256", "stream", "tools"}
	text := concat("", ["argument \"", substring(name, 0, 80), "\" is not permitted for this call"])
}

why contains "the limit of 50 calls is used up (rule think)" if {
	near_think
	not calls_left("think", 50)
}

# reporter may list the tools of files, since it may call some of them.
permits contains "list:files" if {
	input.agent.name == "reporter"
	input.action == "mcp.tools/list"
	input.resource == "files"
	input.args == {}
}

# reporter may list the tools of mail, since it may call some of them.
permits contains "list:mail" if {
	input.agent.name == "reporter"
	input.action == "mcp.tools/list"
	input.resource == "mail"
	input.args == {}
}

why contains "this agent may not use this; permitted are: files/read_file, mail/send, scripted" if {
	input.agent.name == "reporter"
	not near_any
}

# These four exist in every policy, also in one that permits nothing.
permits contains "" if false
near_any if false
why contains "" if false
advice contains "" if false
