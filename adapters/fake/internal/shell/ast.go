package shell

// The syntax tree of a script.
type (
	list []item
	item struct {
		and        []andOr // pipelines joined by && and ||
		background bool
	}
	andOr struct {
		op   string // "&&", "||"; "" for the first
		pipe pipeline
	}
	pipeline struct {
		negate bool
		cmds   []command
	}
	command interface{ redirs() []*redir }

	simple struct {
		assigns []assign
		words   []word
		redir   []*redir
	}
	group struct { // { …; } and ( … )
		body     list
		subshell bool
		redir    []*redir
	}
	ifClause struct {
		conds, bodies []list
		otherwise     list
		redir         []*redir
	}
	loop struct { // while, until
		cond, body list
		until      bool
		redir      []*redir
	}
	forClause struct {
		name   string
		words  []word
		params bool // no "in": the positional parameters
		body   list
		redir  []*redir
	}
	caseClause struct {
		subject word
		arms    []caseArm
		redir   []*redir
	}
	caseArm struct {
		patterns []word
		body     list
	}
	function struct {
		name string
		body command
	}
	assign struct {
		name  string
		value word
	}
	redir struct {
		fd  int
		op  string // < > >> >| <& >& <<
		arg word
	}
)

func (c *simple) redirs() []*redir     { return c.redir }
func (c *group) redirs() []*redir      { return c.redir }
func (c *ifClause) redirs() []*redir   { return c.redir }
func (c *loop) redirs() []*redir       { return c.redir }
func (c *forClause) redirs() []*redir  { return c.redir }
func (c *caseClause) redirs() []*redir { return c.redir }
func (c *function) redirs() []*redir   { return nil }

// word is what becomes no, one or several fields when it is expanded.
type word []part

type partKind uint8

const (
	literal partKind = iota
	parameter
	substitution
	arithmetic
)

type part struct {
	kind   partKind
	quoted bool
	text   string // the literal, or the parameter's name
	op     string // of a parameter: ":-", "%", "len" …
	arg    word
	script list
}

// bare returns the text of a word that is one unquoted literal, which only then can be a reserved word or an operator.
func (w word) bare() string {
	if len(w) == 1 && w[0].kind == literal && !w[0].quoted {
		return w[0].text
	}
	return ""
}
