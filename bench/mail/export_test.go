package mail

// Accounts is the number of those who get mail.
func (g *Generator) Accounts() int { return len(g.people) }
