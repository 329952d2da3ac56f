package shell

// Conditions and loops.

func (s *shell) condition(body list) (bool, flow) {
	s.tested++
	f := s.list(body)
	s.tested--
	return s.last == 0, f
}

func (s *shell) ifClause(c *ifClause) flow {
	for i, cond := range c.conds {
		ok, f := s.condition(cond)
		if f.kind != goOn {
			return f
		}
		if ok {
			return s.list(c.bodies[i])
		}
	}
	s.last = 0
	return s.list(c.otherwise)
}

// loopFlow says whether a loop goes on after f, and what it returns if not.
func loopFlow(f flow) (stop bool, out flow) {
	switch f.kind {
	case goOn:
		return false, flow{}
	case breaking, continuing:
		if f.count > 1 {
			return true, flow{f.kind, f.count - 1}
		}
		return f.kind == breaking, flow{}
	}
	return true, f
}

func (s *shell) loop(c *loop) flow {
	status := 0
	for {
		if s.ctx.Err() != nil {
			s.last = s.status(0)
			return flow{kind: exiting}
		}
		ok, f := s.condition(c.cond)
		if f.kind != goOn {
			if stop, out := loopFlow(f); stop {
				return out
			}
			continue
		}
		if ok == c.until {
			s.last = status
			return flow{}
		}
		stop, out := loopFlow(s.list(c.body))
		if status = s.last; stop {
			return out
		}
	}
}

func (s *shell) forClause(c *forClause) flow {
	values := s.params
	if !c.params {
		var err error
		if values, err = s.fields(c.words); err != nil {
			return s.expansionFailed(err)
		}
	}
	s.last = 0
	for _, v := range values {
		s.set(c.name, v)
		if stop, out := loopFlow(s.list(c.body)); stop {
			return out
		}
	}
	return flow{}
}

func (s *shell) caseClause(c *caseClause) flow {
	subject, err := s.text(c.subject)
	if err != nil {
		return s.expansionFailed(err)
	}
	s.last = 0
	for _, arm := range c.arms {
		for _, w := range arm.patterns {
			pattern, err := s.pattern(w)
			if err != nil {
				return s.expansionFailed(err)
			}
			if match(pattern, subject) {
				return s.list(arm.body)
			}
		}
	}
	return flow{}
}
