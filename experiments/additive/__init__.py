"""What runs on printed parts leave beside the report of every run: tables, figures and files for ParaView."""
