package scenario

import "hongyan/bench/load"

// Accounts are shared out, so that what one scenario leaves in mailboxes does not slow down another that reads them all back: the first four fifths get
// bulk mail, the rest belong to scenarios whose mail is checked. A target with few accounts has all for everything.
const fewAccounts = 50

// bulk are the accounts for mail that nobody checks.
func (e *Env) bulk() []load.Account {
	all := e.Target.Accounts
	if len(all) < fewAccounts {
		return all
	}
	return all[:len(all)*4/5]
}

// split takes n accounts of those whose mail is checked, and up to twenty more.
func (e *Env) split(n int) (first, others []load.Account) {
	all := e.Target.Accounts
	if len(all) >= fewAccounts {
		all = all[len(all)*4/5:]
	}
	n = min(n, max(len(all)/2, 1))
	others = all[n:]
	if len(others) == 0 {
		others = all
	}
	return all[:n], others[:min(len(others), 20)]
}
