package compile

import "omega/policy"

// answering writes when an agent's answer may go to the caller who asked: where
// the caller is among those who may know what the agent has read.
func (g *generator) answering(a policy.AgentRule) {
	where := at(a, policy.ActionAnswer, a.Name)
	g.line("\n# The answer of %s to a caller.", a.Name)
	g.line("permit%s contains [%s, []] if recipients_may_know(input.args.caller)", where, quote(policy.RuleAnswer))
	g.line("\nwhy%s contains concat(\"\", [%s, known_to]) if not recipients_may_know(input.args.caller)", where,
		quote("the caller may not know what this agent has read; that is for "))
	g.line("\nadvice%s contains \"\" if false", where)
}
