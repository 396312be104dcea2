package index

// Generic records are key and value as the caller likes, for state machines that are not about mailboxes.

// Put sets a record.
func (t *Txn) Put(key, value []byte) error {
	if t.err != nil {
		return t.err
	}
	if len(key) > MaxRecordKey {
		return t.settle("put record", &LimitError{What: "bytes in a record's key", Limit: MaxRecordKey})
	}
	if len(value) > MaxRecordBytes {
		return t.settle("put record", &LimitError{What: "bytes in a record", Limit: MaxRecordBytes})
	}
	return t.settle("put record", t.put(t.k.record(key), encodeBytes(value)))
}

// Delete removes a record, if it is there.
func (t *Txn) Delete(key []byte) error {
	if t.err != nil {
		return t.err
	}
	return t.settle("delete record", t.remove(t.k.record(key)))
}

// Get reads a record as this Txn sees it; ok says whether there is one.
func (t *Txn) Get(key []byte) (value []byte, ok bool, err error) {
	if t.err != nil {
		return nil, false, t.err
	}
	value, ok, err = t.q.record(key)
	return value, ok, t.settle("get record", err)
}

// Scan calls fn for each record whose key starts with prefix, as this Txn sees them, in key order. fn must neither keep what it
// gets nor write to the Txn.
func (t *Txn) Scan(prefix []byte, fn func(key, value []byte) error) error {
	if t.err != nil {
		return t.err
	}
	return t.q.records(prefix, fn)
}

func (q source) record(key []byte) (value []byte, ok bool, err error) {
	ok, err = q.get(q.k.record(key), func(v []byte) error {
		v, err := decodeBytes(v)
		value = append([]byte{}, v...)
		return err
	})
	return value, ok, err
}

func (q source) records(prefix []byte, fn func(key, value []byte) error) error {
	return q.scanPrefix(q.k.record(prefix), func(key, value []byte) error {
		v, err := decodeBytes(value)
		if err != nil {
			return q.corrupt(key, err.Error())
		}
		return fn(key[shardLen+1:], v)
	})
}
