//! One host as seen from here: SSH, the agent on the other end, facts.
