"""Reading typed values out of what is said of a person: rather none than a wrong one."""
