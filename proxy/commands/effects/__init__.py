"""The rules of effects, by data type. Each turns a request and its reply into what was done."""
